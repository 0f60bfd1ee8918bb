import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildTaskView, summarizeTask } from '@lichen/core'
import t from 'tap'
import { eventually } from '../eventually.js'
import { actionOf, makePlan, startSystem } from './system.js'

t.test('an engine that is stopped and started goes on with its tasks, and nothing runs twice', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  await system.startAgent('n2')
  const file = join(system.directory, 'runs')
  const task = await system.submit(makePlan('restart', [
    { name: 'one', blueprint: 'script', with: { script: `echo one-$LICHEN_NODE >> ${file}; sleep 1` } },
    { name: 'two', blueprint: 'script', after: ['one'], with: { script: `echo two-$LICHEN_NODE >> ${file}` } },
  ]))
  await eventually(t, 'both nodes are at it', () => readFileSync(file, 'utf8').split('\n').length === 3)
  await system.stopEngine()
  t.match(await system.store.tasks.listUnowned(Date.now(), 10), [task], 'the lease was given back')
  await system.startEngine('engine-2')
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded')
  t.strictSame(readFileSync(file, 'utf8').trim().split('\n').sort(), ['one-n1', 'one-n2', 'two-n1', 'two-n2'])
  t.equal(actionOf(view, 'one/run@n1').attempt, 1)
  const events = await system.readEvents(task)
  t.strictSame(events.flatMap(({ event }) => (event.type === 'taskClaimed' ? [[event.engine, event.epoch]] : [])), [['engine-1', 1], ['engine-2', 2]])
  t.strictSame(events.map(({ seq }) => seq), events.map((_, index) => index + 1), 'no hole')
  const replayed = buildTaskView(events, (await system.store.tasks.read(task))!.graph)
  const { state, outcome, reason, counts } = (await system.store.tasks.read(task))!.summary
  t.strictSame(summarizeTask(replayed), { state, outcome, reason, counts }, 'the replay is what the engine had')
})

t.test('results that come while no engine runs are applied once, by the next one', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const file = join(system.directory, 'runs')
  const task = await system.submit(makePlan('meanwhile', [{ name: 'one', blueprint: 'script', with: { script: `echo ran >> ${file}; sleep 0.3; echo ended >> ${file}` } }]))
  await eventually(t, 'it runs', () => readFileSync(file, 'utf8') === 'ran\n')
  await system.stopEngine()
  await eventually(t, 'it ended while the engine was away', () => readFileSync(file, 'utf8') === 'ran\nended\n')
  await system.startEngine()
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded')
  t.equal((await system.readEvents(task)).filter(({ event }) => event.type === 'actionEnded').length, 1)
  t.equal(readFileSync(file, 'utf8'), 'ran\nended\n')
})

t.test('an engine that lost its lease stops driving at once', async (t) => {
  const system = await startSystem(t, { limits: { leaseTtlMs: 1_000 } })
  await system.startAgent('n1')
  const file = join(system.directory, 'runs')
  const task = await system.submit(makePlan('fenced', [
    { name: 'one', blueprint: 'script', with: { script: `echo one >> ${file}; sleep 0.5` } },
    { name: 'two', blueprint: 'script', after: ['one'], with: { script: `echo two >> ${file}` } },
  ]))
  await eventually(t, 'it runs', () => readFileSync(file, 'utf8') === 'one\n')
  // Another engine whose clock is far ahead: the epoch is the guard, not the clock.
  const lease = await system.store.tasks.claim(task, { name: 'another', instance: 'a' }, Date.now() + 1_000_000, 3_000)
  t.equal(lease?.epoch, 2)
  await eventually(t, 'the engine noticed', () => system.logged.some((line) => /not driven here any more|lease of a task was lost/.test(line.message)))
  t.equal(actionOf(await system.readView(task), 'one/').state, 'sent', 'nothing was recorded without the lease')
  t.equal(readFileSync(file, 'utf8'), 'one\n', 'nothing was sent without the lease')
  await system.store.tasks.release(task, { name: 'another', instance: 'a' })
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded', 'the sweeper took it again')
  t.equal(readFileSync(file, 'utf8'), 'one\ntwo\n')
})
