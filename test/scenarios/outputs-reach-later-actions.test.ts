import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildCatalog, type TaskId } from '@lichen/core'
import t from 'tap'
import { eventually } from '../eventually.js'
import { makeBlueprint, makePlan, startSystem } from './system.js'

const catalog = buildCatalog([
  makeBlueprint('maker', `
parameters: {type: object, additionalProperties: false, required: [directory], properties: {directory: {type: string}, mode: {type: string, default: good}}}
actions:
  make:
    commands:
      - {name: print, run: {shell: 'echo "value with \\"quotes\\""', uncheckable: true, outputs: {plain: {from: stdout}}}}
      - {name: keep, run: {shell: 'umask 077; echo -n hidden-token-1234 > {{ params.directory }}/token', uncheckable: true, outputs: {token: {from: file, path: '{{ params.directory }}/token', secret: true}}}}
  use:
    commands:
      - {name: write, file: {path: '{{ params.directory }}/used', content: '{{ outputs.make.plain }} {{ outputs.make.token }}', secret: true}}
      - {name: show, run: {shell: 'cat {{ params.directory }}/used', uncheckable: true}}
`),
])

t.test('an output reaches the action that comes after, and a secret one is nowhere in the clear', async (t) => {
  const system = await startSystem(t, { catalog })
  await system.startAgent('n1')
  const task = await system.submit(makePlan('outputs', [{ name: 'app', blueprint: 'maker', with: { directory: system.directory } }]))
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded', view.reason)
  t.equal(readFileSync(join(system.directory, 'used'), 'utf8'), 'value with "quotes" hidden-token-1234')
  const log = await system.readLog(task)
  t.match(log, /value with "quotes"/)
  t.notMatch(log, /hidden-token-1234/)
  t.notMatch(JSON.stringify(await system.readEvents(task)), /hidden-token-1234/)
  const kept = await system.store.secrets.readSecrets(`task/${task}`)
  t.strictSame(kept.map(({ name }) => name), ['app/make@n1#token'])
  t.notOk(Buffer.from(kept[0]!.sealed).includes('hidden-token-1234'))
})

t.test('a check finds what the action printed when it last ran; before that it says what it does not know', async (t) => {
  const system = await startSystem(t, { catalog })
  await system.startAgent('n1')
  const plan = makePlan('outputs', [{ name: 'app', blueprint: 'maker', with: { directory: system.directory } }])
  const diffOf = async (task: TaskId): Promise<string> => {
    const ended = (await system.readEvents(task)).flatMap(({ event }) => (event.type === 'actionEnded' && event.action === 'app/use@n1' ? [event.result] : []))
    return JSON.stringify(ended.map(({ outcome, commands }) => [outcome, commands[0]?.changed]))
  }
  const early = await system.submit(plan, 'check')
  t.equal((await system.ended(early)).outcome, 'succeeded')
  t.equal(await diffOf(early), '[["succeeded",true]]', 'the file is not there')
  await system.ended(await system.submit(plan))
  const late = await system.submit(plan, 'check')
  t.equal((await system.ended(late)).outcome, 'succeeded')
  t.equal(await diffOf(late), '[["succeeded",false]]', 'the file has what was printed, the secret too')
  writeFileSync(join(system.directory, 'used'), 'something else')
  const drifted = await system.submit(plan, 'check')
  t.equal((await system.ended(drifted)).outcome, 'succeeded')
  t.equal(await diffOf(drifted), '[["succeeded",true]]')
  t.notMatch(await system.readLog(drifted), /hidden-token-1234/)
})

t.test('a secret output survives a restart of the engine between the two actions', async (t) => {
  const slow = buildCatalog([
    makeBlueprint('slow', `
parameters: {type: object, additionalProperties: false, required: [directory], properties: {directory: {type: string}}}
actions:
  make: {commands: [{name: keep, run: {shell: 'echo -n hidden-token-5678 > {{ params.directory }}/token', uncheckable: true, outputs: {token: {from: file, path: '{{ params.directory }}/token', secret: true}}}}]}
  wait: {commands: [{name: wait, run: {shell: 'touch {{ params.directory }}/waiting; until test -e {{ params.directory }}/go; do sleep 0.05; done', uncheckable: true}}]}
  use: {after: [wait, make], commands: [{name: write, file: {path: '{{ params.directory }}/used', content: '{{ outputs.make.token }}', secret: true}}]}
`),
  ])
  const system = await startSystem(t, { catalog: slow })
  await system.startAgent('n1')
  const task = await system.submit(makePlan('outputs', [{ name: 'app', blueprint: 'slow', with: { directory: system.directory } }]))
  await eventually(t, 'it is between the two', () => readFileSync(join(system.directory, 'waiting'), 'utf8') === '')
  await system.stopEngine()
  await system.startEngine()
  writeFileSync(join(system.directory, 'go'), '')
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded', view.reason)
  t.equal(readFileSync(join(system.directory, 'used'), 'utf8'), 'hidden-token-5678')
})
