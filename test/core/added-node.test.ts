import { buildGraph, nodeId, taskId, type ActionGraph, type Applied, type CommandResult, type GraphInput } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeCatalog, makeNode, makePlan, type PlanDraft } from './plan-fixture.js'
import { startTask, type DrivenTask } from './task-fixture.js'

/** Planner and state machine together: what one node more costs. Every node answers checks with "still there", and whatever runs changes something. */
const catalog = makeCatalog([
  makeBlueprint('ground', `
provides: {self: {interface: ground, outputs: {first: {type: string, value: 'nodes[0].address'}}}}
actions:
  packages: {needs: [], commands: [{name: p, package: {names: [pk]}}]}
  configure: {commands: [{name: c, file: {path: /etc/g, content: 'me={{ node.address }}'}}]}
  healthy: {phase: check, on: first, gate: true, commands: [{name: h, probe: {command: [ask]}}]}
  remove: {commands: [{name: r, note: {text: r}}]}`),
  makeBlueprint('house', `
requires: {ground: {interface: ground}}
actions:
  packages: {needs: [], commands: [{name: p, package: {names: [hs]}}]}
  configure: {commands: [{name: c, file: {path: /etc/h, content: 'on={{ uses.ground.first }}'}}]}
  remove: {commands: [{name: r, note: {text: r}}]}`),
])

function build(count: number, rollout: PlanDraft, input: Partial<GraphInput> = {}): ActionGraph {
  const plan = makePlan((draft) => Object.assign(draft, { nodes: [{ name: 'all' }], components: [{ name: 'ground', blueprint: 'ground', on: 'all' }, { name: 'house', blueprint: 'house', on: 'all', uses: { ground: 'ground' } }], rollout }))
  const built = buildGraph({ plan, catalog, nodes: Array.from({ length: count }, (_, index) => makeNode(`n${index + 1}`)), kind: 'apply', ...input })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}

const appliedOf = (graph: ActionGraph): Applied => new Map(graph.actions.map(({ id, key }) => [id, { key, task: taskId('t-before'), outputs: {} }]))

/** Runs the task to its end and gives back what was sent, without the looks. */
function run(graph: ActionGraph): { readonly task: DrivenTask; readonly sent: string[] } {
  const task = startTask(graph)
  const sent: string[] = []
  for (let effects = task.settle(); effects.length > 0; effects = task.settle()) {
    for (const effect of effects) {
      if (effect.type !== 'send') continue
      const isLook = effect.action.verifies.length > 0
      if (!isLook) sent.push(effect.action.id)
      const commands = effect.action.commands.map(({ name, kind }): CommandResult => ({ name, kind, outcome: 'succeeded', changed: false, durationMs: 1 }))
      task.end(effect.action.id, 'succeeded', isLook ? { commands } : { changed: effect.action.commands.some(({ kind }) => kind !== 'probe') })
    }
  }
  return { task, sent: sent.sort() }
}

for (const [what, rollout, extra] of [['all at once', {}, []], ['in waves', { waves: [{ nodes: 1 }, { nodes: '25%' }] }, []]] as const) {
  t.test(`a node more, ${what}: the node runs what is its own, the component is checked as a whole, and the other nodes run nothing`, async (t) => {
    const before = build(40, rollout)
    const { task, sent } = run(build(41, rollout, { placement: before.placement, applied: appliedOf(before) }))
    t.strictSame(sent, ['ground/configure@n41', 'ground/healthy@n1', 'ground/packages@n41', 'house/configure@n41', 'house/packages@n41', ...extra].sort())
    t.match(task.view, { outcome: 'succeeded', unchanged: before.actions.length - 1 })
  })
}

t.test('a node that was there and has changed concerns everything that comes after it', async (t) => {
  const before = build(3, {})
  const nodes = [1, 2, 3].map((index) => makeNode(`n${index}`, {}, index === 2 ? { joinedAt: 5 } : {}))
  const { sent } = run(build(3, {}, { nodes, placement: before.placement, applied: appliedOf(before) }))
  t.strictSame(sent, ['ground/configure@n2', 'ground/healthy@n1', 'ground/packages@n2', 'house/configure@n1', 'house/configure@n2', 'house/configure@n3', 'house/packages@n2'])
})

t.test('an earlier wave that changed does not make a later one run', async (t) => {
  const rollout = { waves: [{ nodes: 1 }] }
  const before = build(3, rollout)
  const applied = new Map([...appliedOf(before)].filter(([id]) => id !== 'house/configure@n1'))
  t.strictSame(run(build(3, rollout, { placement: before.placement, applied })).sent, ['house/configure@n1'])
})

t.test('nothing to do costs one look at each node', async (t) => {
  const before = build(40, {})
  const { task, sent } = run(build(40, {}, { placement: before.placement, applied: appliedOf(before) }))
  t.strictSame(sent, [])
  t.equal([...task.view.actions.values()].filter(({ attempt }) => attempt > 0).length, 40)
  t.equal(task.view.actions.get(task.graph.actions[0]!.id)?.node, nodeId('n1'))
})
