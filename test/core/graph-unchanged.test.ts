import { buildGraph, digestOfGraph, taskId, type Action, type ActionGraph, type Applied, type GraphInput } from '@lichen/core'
import t from 'tap'
import { makeBlueprint, makeCatalog, makeNode, makeNodes, makePlan, type PlanDraft } from './plan-fixture.js'

const since = taskId('t-1')
const buildOf = (input: Partial<GraphInput>): ActionGraph => {
  const built = buildGraph({ plan: makePlan(), catalog: makeCatalog(), nodes: makeNodes(), kind: 'apply', ...input })
  if (!built.ok) throw new Error(JSON.stringify(built.problems))
  return built.value
}
/** What a store knows after a task with this graph succeeded. */
const appliedOf = (graph: ActionGraph, outputs: Record<string, Record<string, string>> = {}): Applied => new Map(graph.actions.map((action) => [action.id, { key: action.key, task: since, outputs: outputs[action.id] ?? {} }]))
const find = (graph: ActionGraph, id: string): Action => graph.actions.find((action) => action.id === id)!
const idsOf = (actions: readonly Action[]): string[] => actions.map(({ id }) => id)
const changedOf = (graph: ActionGraph): string[] => idsOf(graph.actions.filter((action) => action.unchanged === null && action.component !== 'lichen'))

/** A plan of one component of this blueprint on the group `web`. */
const buildWith = (body: string, input: Partial<GraphInput> = {}, change: (plan: PlanDraft) => void = () => undefined): ActionGraph => {
  const plan = makePlan((draft) => {
    draft['components'] = [{ name: 'c', blueprint: 'odd', on: 'web' }]
    change(draft)
  })
  return buildOf({ catalog: makeCatalog([makeBlueprint('odd', body)]), plan, ...input })
}

t.test('after an apply, everything is unchanged; each node looks once whether it is still so, before anything else', async (t) => {
  const graph = buildOf({})
  const again = buildOf({ applied: appliedOf(graph, { 'base/configure@n1': { port: '7' } }) })
  t.strictSame(changedOf(again), [])
  t.strictSame(idsOf(again.actions.slice(0, 3)), ['lichen/verify@n1', 'lichen/verify@n2', 'lichen/verify@n3'])
  t.strictSame(find(again, 'base/configure@n1').unchanged, { since, outputs: { port: '7' }, check: 'lichen/verify@n1' })
  t.strictSame(find(again, 'base/configure@n1').after, ['base/packages@n1', 'lichen/verify@n1'])
  t.match(find(again, 'lichen/verify@n1'), {
    component: 'lichen', name: 'verify', group: '', mode: 'check', after: [], retry: { attempts: 1 }, unchanged: null, limitMs: null,
    verifies: [{ action: 'base/packages@n1', commands: 1 }, { action: 'base/configure@n1', commands: 1 }, { action: 'base/check@n1', commands: 1 }, { action: 'base/grant:front.store@n1', commands: 1 }],
    commands: [{ name: 'base/packages@n1: install', kind: 'package' }, { name: 'base/configure@n1: write none' }, { name: 'base/check@n1: answers' }, { name: 'base/grant:front.store@n1: make shop' }],
  })
  t.strictSame(again.actions.filter(({ component }) => component !== 'lichen').map(({ key }) => key), graph.actions.map(({ key }) => key))
})

t.test('what differs runs, and only that', async (t) => {
  const before = buildOf({})
  const plan = makePlan((draft) => (draft['components'][1].with = { tag: 'new' }))
  t.strictSame(changedOf(buildOf({ plan, applied: appliedOf(before) })), ['base/configure@n1'])
  t.strictSame(changedOf(buildOf({ applied: new Map([...appliedOf(before)].filter(([id]) => id !== 'front/packages@n3')) })), ['front/packages@n3'])
})

t.test('what had to hold before something was done is not looked at afterwards', async (t) => {
  const body = `actions:
  preflight:
    commands:
      - {name: install the look, file: {path: /look, content: x}}
      - {name: there is room, probe: {command: [/look], deadlineMs: 0, prerequisite: true}}
  ready:
    commands: [{name: it is time, probe: {command: [/look], prerequisite: true}}]
  check:
    commands: [{name: it answers, probe: {command: [/look]}}]
`
  const again = buildWith(body, { applied: appliedOf(buildWith(body)) })
  t.strictSame(changedOf(again), [])
  t.strictSame(find(again, 'lichen/verify@n2').commands.map(({ name }) => name), ['c/preflight@n2: install the look', 'c/check@n2: it answers'])
  t.strictSame(find(again, 'c/ready@n2').unchanged, { since, outputs: {}, check: null }, 'where nothing else is in an action, its key counts')
  const changed = buildWith(body.replace('content: x', 'content: y'), { applied: appliedOf(buildWith(body)) })
  t.match(find(changed, 'c/preflight@n2').commands, [{}, { name: 'there is room' }], 'it is asked when its action runs')
  t.strictSame(buildWith(body, { kind: 'check' }).actions.filter(({ node }) => node === 'n2').flatMap(({ commands }) => commands).length, 4, 'and in a check')
})

t.test('a task that checks or destroys leaves nothing out', async (t) => {
  const applied = appliedOf(buildOf({}))
  for (const kind of ['check', 'destroy'] as const) t.strictSame(buildOf({ kind, applied }), buildOf({ kind }))
})

t.test('a key covers commands and registration, and nothing that changes by itself', async (t) => {
  const keysOf = (input: Partial<GraphInput>) => buildOf(input).actions.map(({ key }) => key)
  const keys = keysOf({})
  const nodes = makeNodes()
  t.strictSame(keysOf({ nodes: nodes.map((node) => ({ ...node, lastSeenAt: 9, agentVersion: '9', labels: { ...node.labels, more: 'x' }, facts: { ...node.facts, kernel: '9', bootId: 'x', memoryBytes: 9, diskFreeBytes: 9 } })) }), keys)
  t.strictSame(keysOf({ plan: makePlan((plan) => Object.assign(plan, { rollout: { maxFailures: 3 }, limits: { taskS: 60 } })) }), keys)
  const rejoined = buildOf({ nodes: nodes.map((node) => (node.id === 'n2' ? { ...node, joinedAt: 5 } : node)), applied: appliedOf(buildOf({})) })
  t.strictSame(changedOf(rejoined), ['front/packages@n2', 'front/configure@n2'], 'a machine that was installed anew has nothing')
  t.equal(new Set(buildWith('actions: {a: {commands: [{name: n, note: {text: t}}]}, remove: {commands: [{name: n, note: {text: t}}]}}').actions.map(({ key }) => key)).size, 1, 'the same commands, the same key')
})

t.test('an action that names an output of one that runs again runs again', async (t) => {
  const body = (text: string) => `
actions:
  init: {on: first, commands: [{name: init, run: {argv: [init, '${text}'], creates: /c, outputs: {token: {from: stdout}}}}]}
  join: {commands: [{name: join, file: {path: /j, content: '{{ outputs.init.token }}'}}]}
  other: {commands: [{name: other, directory: {path: /o}}]}
  remove: {commands: [{name: n, note: {text: n}}]}`
  const applied = appliedOf(buildWith(body('one')))
  t.strictSame(changedOf(buildWith(body('one'), { applied })), [])
  t.strictSame(changedOf(buildWith(body('two'), { applied })), ['c/init@n2', 'c/join@n2', 'c/join@n3'])
})

const kinds: readonly [string, string, string[]][] = [
  ['a note', '{name: n, note: {text: t}}', []],
  ['a program that cannot be checked', '{name: n, run: {argv: [x], uncheckable: true}}', []],
  ['a program that reboots its node', '{name: n, run: {argv: [x], creates: /x, reboots: true}}', []],
  ['a program with a check', '{name: n, run: {argv: [x], unless: y, outputs: {o: {from: stdout, secret: true}}}}', ['c/a@n2: n']],
  ['a probe', '{name: n, probe: {command: [x]}}', ['c/a@n2: n']],
  ['a file beside a note', '{name: n, note: {text: t}}, {name: f, file: {path: /f, content: x}}', ['c/a@n2: f']],
]
for (const [what, commands, names] of kinds) t.test(`what is looked at of ${what}`, async (t) => {
  const body = `actions: {a: {on: first, commands: [${commands}]}, remove: {commands: [{name: n, note: {text: t}}]}}`
  const graph = buildWith(body, { applied: appliedOf(buildWith(body)) })
  t.strictSame(changedOf(graph), [])
  t.equal(find(graph, 'c/a@n2').unchanged?.check, names.length > 0 ? 'lichen/verify@n2' : null)
  const looks = graph.actions.filter(({ component }) => component === 'lichen')
  t.strictSame(looks.flatMap((action) => action.commands.map(({ name }) => name)), names)
  t.notOk(JSON.stringify(looks).includes('outputs'), 'outputs are those of then')
})

t.test('a plan may trust what is unchanged', async (t) => {
  const plan = makePlan((draft) => (draft['rollout'] = { trustUnchanged: true }))
  const graph = buildOf({ plan, applied: appliedOf(buildOf({ plan })) })
  t.notOk(graph.actions.some(({ component }) => component === 'lichen'))
  t.ok(graph.actions.every(({ unchanged }) => unchanged?.check === null))
})

t.test('one look is bounded in size and in time; a node with very much to look at has several', async (t) => {
  const body = `actions: {${Array.from({ length: 5 }, (_, index) => `a${index}: {on: first, commands: [{name: n, file: {path: /f${index}, content: "${'x'.repeat(900_000)}"}}]}`).join(', ')}, remove: {commands: [{name: n, note: {text: t}}]}}`
  const graph = buildWith(body, { applied: appliedOf(buildWith(body)) })
  const looks = graph.actions.filter(({ component }) => component === 'lichen')
  t.match(looks.map(({ id, verifies, timeoutMs }) => [id, verifies.map(({ action }) => action), timeoutMs]), [
    ['lichen/verify-2@n2', ['c/a2@n2', 'c/a3@n2'], 900_000],
    ['lichen/verify-3@n2', ['c/a4@n2'], 610_000],
    ['lichen/verify@n2', ['c/a0@n2', 'c/a1@n2'], 900_000],
  ])
  t.equal(find(graph, 'c/a3@n2').unchanged?.check, 'lichen/verify-2@n2')
})

t.test('a node with much to ask has up to sixteen looks, and files are looked at beside them', (t) => {
  const looksOf = (count: number): number[][] => {
    const body = `actions: {${Array.from({ length: count }, (_, index) => `a${index}: {on: first, commands: [{name: f, file: {path: /f${index}, content: x}}, {name: n, run: {argv: [x], unless: [y]}}]}`).join(', ')}, remove: {commands: [{name: n, note: {text: t}}]}}`
    const graph = buildWith(body, { applied: appliedOf(buildWith(body)) })
    const looks = graph.actions.filter(({ component }) => component === 'lichen')
    return looks.map(({ commands }) => [commands.filter(({ kind }) => kind === 'run').length, commands.filter(({ kind }) => kind === 'file').length])
  }
  t.strictSame(looksOf(6), [[6, 6]])
  t.strictSame(looksOf(7), [[1, 1], [6, 6]])
  t.strictSame(looksOf(40).map(([asks]) => asks).sort(), [4, 6, 6, 6, 6, 6, 6])
  t.strictSame(looksOf(112).map(([asks]) => asks), Array.from({ length: 16 }, () => 7))
  t.end()
})

t.test('the digest covers commands, what is unchanged and how it is looked at', async (t) => {
  const graph = buildOf({})
  const applied = appliedOf(graph)
  const digests = new Set([
    graph.digest,
    buildOf({ applied }).digest,
    buildOf({ applied: appliedOf(graph, { 'base/configure@n1': { port: '7' } }) }).digest,
    buildOf({ applied, plan: makePlan((plan) => (plan['rollout'] = { trustUnchanged: true })) }).digest,
    buildOf({ plan: makePlan((plan) => (plan['components'][1].with = { tag: 'new' })) }).digest,
    buildOf({ plan: makePlan((plan) => (plan['rollout'] = { waves: [{ nodes: 1 }] })) }).digest,
    buildOf({ plan: makePlan((plan) => (plan['components'][1].approve = true)) }).digest,
  ])
  t.equal(digests.size, 7)
  for (const each of [graph, buildOf({ applied })]) t.equal(digestOfGraph(each), each.digest)
})

t.test('a plan of 500 nodes plus one touches the one and those that are told of it', async (t) => {
  const cluster = makeBlueprint('cluster', `
provides: {hosts: {interface: hosts, outputs: {all: {type: list, value: 'nodes.map(n, n.address)'}}}}
actions:
  packages: {needs: [], commands: [{name: p, package: {names: [pk]}}]}
  configure: {commands: [{name: c, file: {path: /etc/c, content: 'me={{ node.address }} first={{ nodes[0].address }}'}}]}
  start: {commands: [{name: s, service: {unit: c.service, state: running}}]}
  check: {commands: [{name: up, probe: {tcp: {host: '{{ node.address }}', port: 80}}}]}
  members: {phase: check, on: first, commands: [{name: m, probe: {command: [ask, '{{ nodes | size }}']}}]}
  remove: {commands: [{name: r, note: {text: r}}]}`)
  const balancer = makeBlueprint('balancer', `
requires: {hosts: {interface: hosts}}
actions:
  packages: {needs: [], commands: [{name: p, package: {names: [lb]}}]}
  configure: {commands: [{name: c, file: {path: /etc/lb, content: "{{ uses.hosts.all | join: ' ' }}"}}]}
  remove: {commands: [{name: r, note: {text: r}}]}`)
  const plan = makePlan((draft) => {
    draft['nodes'] = [{ name: 'all', select: { role: 'member' }, rollout: { waves: [{ nodes: 1 }, { nodes: '10%' }] } }, { name: 'front', select: { role: 'front' } }]
    draft['components'] = [{ name: 'c', blueprint: 'cluster', on: 'all' }, { name: 'lb', blueprint: 'balancer', on: 'front', uses: { hosts: 'c' } }]
  })
  const makeFleet = (count: number) => [makeNode('front', { role: 'front' }), ...Array.from({ length: count }, (_, index) => makeNode(`m${index}`, { role: 'member' }))]
  const catalog = makeCatalog([cluster, balancer])
  const before = buildOf({ plan, catalog, nodes: makeFleet(500) })
  const after = buildOf({ plan, catalog, nodes: makeFleet(501), placement: before.placement, applied: appliedOf(before) })
  t.strictSame(changedOf(after).sort(), ['c/check@m500', 'c/configure@m500', 'c/members@m0', 'c/packages@m500', 'c/start@m500', 'lb/configure@front'])
  const changed = new Set(changedOf(after).map((id) => id.split('@')[1]))
  t.strictSame([...changed].sort(), ['front', 'm0', 'm500'])
  t.equal(after.actions.filter(({ component }) => component === 'lichen').length, 501)
  t.strictSame(new Set(after.actions.filter(({ isAddition }) => isAddition).map(({ node }) => node)), new Set(['m500']), 'and those of the new node say that it is new')
})
