import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildCatalog } from '@lichen/core'
import t from 'tap'
import { openApi } from './api.js'
import { makeBlueprint, makePlan, startSystem } from './system.js'

const catalog = buildCatalog([
  makeBlueprint('fleet', `
parameters: {type: object, additionalProperties: false, required: [directory], properties: {directory: {type: string}}}
operations:
  restart:
    summary: Restart one node after the other
    parameters: {type: object, additionalProperties: false, properties: {word: {type: string, default: again}}}
    waves: [{nodes: 1}]
actions:
  configure: {commands: [{name: write, file: {path: '{{ params.directory }}/{{ node.id }}.conf', content: x}}]}
  restart:
    phase: operation
    operation: restart
    retry: {attempts: 1}
    commands: [{name: restart, run: {shell: 'echo "{{ node.id }} {{ operation.name }} {{ operation.params.word }}" >> {{ params.directory }}/ran; if [ -e {{ params.directory }}/breaks ]; then touch {{ params.directory }}/sick; fi', uncheckable: true}}]
  healthy: {phase: check, on: first, gate: true, commands: [{name: ask, probe: {command: [test, '!', -e, '{{ params.directory }}/sick'], deadlineMs: 0}}]}
  remove: {commands: [{name: remove, file: {path: '{{ params.directory }}/{{ node.id }}.conf', state: absent}}]}`),
])

t.test('an operation stops where a gate fails after its first wave, goes on with a retry, and leaves nothing to apply', async (t) => {
  const system = await startSystem(t, { catalog })
  const api = await openApi(t, system, catalog)
  for (const name of ['n1', 'n2', 'n3']) await system.startAgent(name)
  const plan = makePlan('shop', [{ name: 'app', blueprint: 'fleet', with: { directory: system.directory } }])
  const ended = (task: string) => api.reached(task, 'the end', ({ state }) => state === 'ended')
  t.match(await ended(await api.submit(plan)), { outcome: 'succeeded' })
  const [ran, breaks, sick] = ['ran', 'breaks', 'sick'].map((name) => join(system.directory, name)) as [string, string, string]
  t.notOk(existsSync(ran), 'an apply runs no operation')

  writeFileSync(breaks, '')
  const operation = await api.operate('shop', { operation: 'restart', parameters: { word: 'slowly' } })
  const failed = await ended(operation)
  t.match(failed, { kind: 'operation', outcome: 'failed' })
  t.match(failed.gates, [{ meaning: 'wave 1 of 3 of app (canary: n1)', state: 'failed' }])
  t.equal(readFileSync(ran, 'utf8'), 'n1 restart slowly\n', 'nodes of later waves are untouched')

  rmSync(breaks)
  rmSync(sick)
  await api.ask(operation, 'retry')
  t.match(await ended(operation), { outcome: 'succeeded' })
  t.equal(readFileSync(ran, 'utf8'), 'n1 restart slowly\nn2 restart slowly\nn3 restart slowly\n', 'what was done is not done again')

  const again = await api.submit(plan)
  t.match(await ended(again), { outcome: 'succeeded' })
  const view = await system.readView(again as never)
  t.same([...view.actions.values()].filter(({ id, isUnchanged }) => !isUnchanged && !id.startsWith('lichen/')).map(({ id }) => id), [], 'nothing to change: what was applied still counts')
  t.equal(view.unchanged, 4)

  await ended(await api.operate('shop', { operation: 'restart', nodes: ['n2'] }))
  t.match(readFileSync(ran, 'utf8'), /\nn2 restart again\n$/, 'on one node, with the default of its parameter, though it ran before')
})
