import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { openApi } from './api.js'
import { makePlan, startSystem } from './system.js'

const linesOf = (file: string): string[] => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [])

t.test('a component that asks for approval begins when a person gives it, after all before it is complete', async (t) => {
  const system = await startSystem(t)
  const api = await openApi(t, system)
  await system.startAgent('n1')
  const file = join(system.directory, 'ran')
  const task = await api.submit(makePlan('approved', [
    { name: 'first', blueprint: 'script', with: { script: `echo first >> ${file}` } },
    { name: 'second', blueprint: 'script', after: ['first'], approve: true, with: { script: `echo second >> ${file}` } },
  ]))
  const waiting = await api.reached(task, 'it waits for approval', ({ gates }) => gates.some(({ state }) => state === 'waiting'))
  const gate = waiting.gates.find(({ state }) => state === 'waiting')!
  t.match(waiting, { state: 'running', waitingFor: { owner: 'operator', until: null } })
  t.match(gate.meaning, /second/)
  t.same(linesOf(file), ['first'])
  t.match(await api.refused(task, 'approve', { gate: `${gate.id}x` }, 'TASK_UNKNOWN_GATE'), `did you mean "${gate.id}"`)
  await api.ask(task, 'approve', { gate: gate.id, reason: 'go' })
  const ended = await api.reached(task, 'the end', ({ state }) => state === 'ended')
  t.match(ended, { outcome: 'succeeded' })
  t.match(ended.gates.find(({ id }) => id === gate.id), { state: 'open', approvedBy: 'admin' })
  t.same(linesOf(file), ['first', 'second'])
  await api.refused(task, 'approve', {}, 'TASK_ENDED')
})

t.test('a canary runs alone, and the other nodes follow when it is approved; while it is not, the engine may die', async (t) => {
  const system = await startSystem(t)
  const api = await openApi(t, system)
  for (const name of ['n1', 'n2', 'n3']) await system.startAgent(name)
  const file = join(system.directory, 'ran')
  const plan = { ...makePlan('canary', [{ name: 'app', blueprint: 'script', with: { script: `echo $LICHEN_NODE >> ${file}` } }]), rollout: { waves: [{ nodes: 1, approve: true }, { nodes: '50%' }] } }
  const task = await api.submit(plan)
  const waiting = await api.reached(task, 'the canary is complete', ({ gates }) => gates.some(({ state }) => state === 'waiting'))
  const gate = waiting.gates.find(({ state }) => state === 'waiting')!
  t.match(gate.meaning, /^wave 1 of 2 of app \(canary: n1\)$/)
  t.same(linesOf(file), ['n1'])
  await system.stopEngine()
  await api.ask(task, 'approve', { reason: 'it looks good' })
  await api.refused(task, 'approve', { gate: gate.id }, 'TASK_GATE_NOT_WAITING')
  await system.startEngine()
  t.match(await api.reached(task, 'the end', ({ state }) => state === 'ended'), { outcome: 'succeeded' })
  t.same(linesOf(file).sort(), ['n1', 'n2', 'n3'])
})

t.test('a task that nobody approves can be cancelled, and nothing of what was asked for begins', async (t) => {
  const system = await startSystem(t)
  const api = await openApi(t, system)
  await system.startAgent('n1')
  const file = join(system.directory, 'ran')
  const task = await api.submit(makePlan('refused', [{ name: 'app', blueprint: 'script', approve: true, with: { script: `echo app >> ${file}` } }]))
  await api.reached(task, 'it waits', ({ waitingFor }) => waitingFor?.owner === 'operator')
  await api.ask(task, 'cancel', { reason: 'not today' })
  t.match(await api.reached(task, 'the end', ({ state }) => state === 'ended'), { outcome: 'cancelled', reason: /not today/ })
  await eventually(t, 'nothing ran', () => !existsSync(file))
  await api.refused(task, 'approve', {}, 'TASK_ENDED')
})
