import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildCatalog, nodeId, type TaskId } from '@lichen/core'
import t, { type Test } from 'tap'
import { makeBlueprint, startSystem, type System } from './system.js'

/** `hub` keeps a list of its members, `member` a file on each node; a member says goodbye before it goes, unless it is told to fail at it. */
const catalog = buildCatalog([
  makeBlueprint('hub', `
parameters: {type: object, additionalProperties: false, required: [directory], properties: {directory: {type: string}}}
provides: {self: {interface: hub, inputs: {type: object}, outputs: {directory: {type: string, value: params.directory}}, action: admit, removeAction: forget}}
actions:
  install: {commands: [{name: write, file: {path: '{{ params.directory }}/hub', content: 'hub'}}]}
  admit: {on: relation, commands: [{name: 'admit {{ item.id }}', forEach: relation.nodes, file: {path: '{{ params.directory }}/known-{{ item.id }}', content: x}}]}
  forget: {phase: remove, on: relation, perNode: true, after: [], commands: [{name: 'forget {{ item.id }}', forEach: relation.nodes, file: {path: '{{ params.directory }}/known-{{ item.id }}', state: absent}}]}
  remove: {after: [forget], commands: [{name: remove, file: {path: '{{ params.directory }}/hub', state: absent}}]}`),
  makeBlueprint('member', `
requires: {hub: {interface: hub}}
actions:
  join: {commands: [{name: write, file: {path: '{{ uses.hub.directory }}/member-{{ node.id }}', content: here}}]}
  leave: {commands: [{name: say goodbye, run: {shell: 'echo "bye of {{ node.id }}" >> {{ uses.hub.directory }}/goodbyes', uncheckable: true}}]}
  mayGo: {phase: remove, retry: {attempts: 1}, commands: [{name: ask, run: {shell: 'test ! -e {{ uses.hub.directory }}/forbidden', uncheckable: true}}]}
  remove: {commands: [{name: remove, file: {path: '{{ uses.hub.directory }}/member-{{ node.id }}', state: absent}}]}`),
])

/** A hub on n1, members on so many nodes; `members: 0` drops them from the plan. */
const makePlan = (directory: string, members: number): object => ({
  apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: 'club' },
  nodes: [{ name: 'one', count: 1 }, ...(members > 0 ? [{ name: 'members', count: members }] : [])],
  components: [{ name: 'hub', blueprint: 'hub', on: 'one', with: { directory } }, ...(members > 0 ? [{ name: 'club', blueprint: 'member', on: 'members', uses: { hub: 'hub' } }] : [])],
})

async function startClub(t: Test): Promise<{ readonly system: System; readonly apply: (members: number, kind?: 'apply' | 'destroy') => Promise<TaskId>; readonly file: (name: string) => string }> {
  const system = await startSystem(t, { catalog })
  await system.startAgent('n1')
  await system.startAgent('n2')
  return { system, apply: (members, kind = 'apply') => system.submit(makePlan(system.directory, members), kind), file: (name) => join(system.directory, name) }
}

const ranIn = async (system: System, task: TaskId): Promise<string[]> => {
  const view = await system.ended(task)
  return [...view.actions.values()].filter((action) => action.state === 'succeeded' && !action.isUnchanged && !action.id.startsWith('lichen/')).map(({ id }) => id as string).sort()
}

t.test('a node that a group gives up is emptied and forgotten, and nothing else is touched', async (t) => {
  const { system, apply, file } = await startClub(t)
  t.match(await system.ended(await apply(2)), { outcome: 'succeeded' })
  const before = statSync(file('member-n1')).mtimeMs
  const second = await apply(1)
  t.match(await system.ended(second), { outcome: 'succeeded' })
  t.notOk(existsSync(file('member-n2')))
  t.notOk(existsSync(file('known-n2')), 'the hub forgot it')
  t.ok(existsSync(file('known-n1')) && existsSync(file('hub')))
  t.equal(readFileSync(file('goodbyes'), 'utf8'), 'bye of n2\n')
  t.equal(statSync(file('member-n1')).mtimeMs, before)
  t.strictSame(await ranIn(system, second), ['club/leave@n2', 'club/mayGo@n2', 'club/remove@n2', 'hub/admit:club.hub@n1', 'hub/forget:club.hub@n1'])
  const third = await apply(1)
  t.strictSame(await ranIn(system, third), [], 'what has left is forgotten')
  t.strictSame((await system.store.tasks.readApplied('default', 'club')).map(({ action }) => action as string).sort(), ['club/join@n1', 'hub/admit:club.hub@n1', 'hub/install@n1'])
  const fourth = await apply(2)
  t.ok((await ranIn(system, fourth)).includes('club/join@n2'), 'and comes back like a new one')
  t.ok(existsSync(file('member-n2')) && existsSync(file('known-n2')))
})

t.test('a departure that failed goes on with the next apply, where it stood', async (t) => {
  const { system, apply, file } = await startClub(t)
  await system.ended(await apply(2))
  writeFileSync(file('forbidden'), '')
  const failed = await system.ended(await apply(1))
  t.equal(failed.outcome, 'failed')
  t.ok(existsSync(file('member-n2')) && existsSync(file('known-n2')), 'it is still there')
  rmSync(file('forbidden'))
  const next = await apply(1)
  t.strictSame(await ranIn(system, next), ['club/mayGo@n2', 'club/remove@n2', 'hub/forget:club.hub@n1'], 'it has said goodbye already')
  t.notOk(existsSync(file('member-n2')) || existsSync(file('known-n2')))
  t.strictSame(await ranIn(system, await apply(1)), [])
})

t.test('a component that the plan drops is taken away with what was prepared for it', async (t) => {
  const { system, apply, file } = await startClub(t)
  await system.ended(await apply(2))
  const task = await apply(0)
  t.strictSame(await ranIn(system, task), ['club/mayGo@n1', 'club/mayGo@n2', 'club/remove@n1', 'club/remove@n2', 'hub/forget:club.hub@n1'])
  for (const name of ['member-n1', 'member-n2', 'known-n1', 'known-n2', 'goodbyes']) t.notOk(existsSync(file(name)), name)
  t.ok(existsSync(file('hub')))
  t.ok((await ranIn(system, await apply(2))).includes('hub/admit:club.hub@n1'), 'it can come back')
  t.ok(existsSync(file('known-n1')))
})

t.test('a node that was removed from the fleet is forgotten by those that knew it', async (t) => {
  const { system, apply, file } = await startClub(t)
  await system.ended(await apply(2))
  t.ok(await system.store.nodes.deleteNode(nodeId('n2')))
  t.ok((await ranIn(system, await apply(1))).includes('hub/forget:club.hub@n1'))
  t.notOk(existsSync(file('known-n2')))
  t.ok(existsSync(file('member-n2')), 'nothing was asked of the machine itself')
})

t.test('after a destroy nothing leaves', async (t) => {
  const { system, apply, file } = await startClub(t)
  await system.ended(await apply(2))
  t.match(await system.ended(await apply(2, 'destroy')), { outcome: 'succeeded' })
  t.strictSame(await ranIn(system, await apply(1)), ['club/join@n1', 'hub/admit:club.hub@n1', 'hub/install@n1'])
  t.notOk(existsSync(file('goodbyes')))
})
