import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { openApi } from './api.js'
import { makePlan, startSystem } from './system.js'

const linesOf = (file: string): string[] => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [])
const waitFor = (file: string): string => `for i in $(seq 200); do test -e ${file} && exit 0; sleep 0.1; done; exit 1`

t.test('a paused task lets run what runs, begins nothing new, also under another engine, and goes on when it is resumed', async (t) => {
  const system = await startSystem(t)
  const api = await openApi(t, system)
  await system.startAgent('n1')
  const file = join(system.directory, 'ran')
  const go = join(system.directory, 'go')
  const task = await api.submit(makePlan('paused', [
    { name: 'one', blueprint: 'script', with: { script: `echo one >> ${file}; ${waitFor(go)}` } },
    { name: 'two', blueprint: 'script', after: ['one'], with: { script: `echo two >> ${file}` } },
  ]))
  await eventually(t, 'the first runs', () => linesOf(file).length === 1)
  await api.refused(task, 'resume', {}, 'TASK_NOT_PAUSED')
  t.match(await api.ask(task, 'pause', { reason: 'lunch' }), { state: 'paused', reason: 'paused by admin: lunch' })
  t.match(await api.ask(task, 'pause'), { state: 'paused' }, 'asking again is fine')
  writeFileSync(go, '')
  const paused = await api.reached(task, 'what ran is complete', ({ counts }) => counts['succeeded'] === 1)
  t.match(paused, { state: 'paused', counts: { pending: 1 }, waitingFor: { reason: /paused by admin: lunch/, owner: 'operator', until: null } })
  await system.stopEngine()
  await system.startEngine()
  await api.reached(task, 'the other engine has it', ({ state }) => state === 'paused')
  await api.refused(task, 'retry', {}, 'TASK_NOT_ENDED')
  t.same(linesOf(file), ['one'])
  await api.ask(task, 'resume')
  t.match(await api.reached(task, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
  t.same(linesOf(file), ['one', 'two'])
  await api.refused(task, 'pause', {}, 'TASK_ENDED')
  await api.refused(task, 'cancel', {}, 'TASK_ENDED')
})

t.test('a task that is paused before an engine took it begins nothing until it is resumed', async (t) => {
  // Rare heartbeats: a node that is slow while the engine is away must not count as lost, or the plan is refused.
  const system = await startSystem(t, { limits: { heartbeatIntervalMs: 10_000 } })
  const api = await openApi(t, system)
  await system.startAgent('n1')
  await system.stopEngine()
  const file = join(system.directory, 'ran')
  const task = await api.submit(makePlan('early', [{ name: 'app', blueprint: 'script', with: { script: `echo app >> ${file}` } }]))
  await api.ask(task, 'pause')
  await system.startEngine()
  await api.reached(task, 'the engine has taken it', ({ state, waitingFor }) => state === 'paused' && waitingFor?.owner === 'operator')
  t.same(linesOf(file), [])
  await api.ask(task, 'resume')
  t.match(await api.reached(task, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
})

t.test('a paused task can be cancelled', async (t) => {
  const system = await startSystem(t)
  const api = await openApi(t, system)
  await system.startAgent('n1')
  const file = join(system.directory, 'ran')
  const task = await api.submit(makePlan('given-up', [{ name: 'app', blueprint: 'script', with: { script: `echo app >> ${file}; sleep 60` } }, { name: 'next', blueprint: 'note', after: ['app'] }]))
  await eventually(t, 'it runs', () => linesOf(file).length === 1)
  await api.ask(task, 'pause')
  await api.ask(task, 'cancel', { reason: 'enough' })
  t.match(await api.reached(task, 'the end', ({ state }) => state === 'ended'), { outcome: 'cancelled', reason: /enough/ })
})
