import { readFileSync } from 'node:fs'
import { taskId } from '@lichen/core'
import t from 'tap'
import { eventually } from '../eventually.js'
import { makePlan, startSystem } from './system.js'

t.test('a malformed message goes to the dead letters with its reason, and the system goes on', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const bad = ['', 'not json', '[]', '{"v":2,"task":"t-1"}', '{"v":1}', '{"v":1,"task":"../../etc"}', '{"v":1,"task":"t-unknown"}']
  for (const body of bad) await system.ring(body)
  const letters = await eventually(t, 'all are dead', async () => {
    const dead = await system.broker.listDeadLetters(100)
    return dead.length === bad.length ? dead : undefined
  })
  t.strictSame(letters.map((letter) => letter.body).sort(), [...bad].sort())
  t.ok(letters.every((letter) => letter.reason !== ''))
  t.match(letters.find((letter) => letter.body.includes('t-unknown'))?.reason, /no task t-unknown in the store/)
  t.equal((await system.ended(await system.submit(makePlan('on', [{ name: 'app', blueprint: 'note' }])))).outcome, 'succeeded')
})

t.test('a message that comes many times does its work once', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const task = await system.submit(makePlan('doubled', [{ name: 'app', blueprint: 'script', with: { script: `echo x >> ${system.directory}/runs; sleep 0.2` } }]))
  for (let index = 0; index < 20; index++) await system.ring(JSON.stringify({ v: 1, task }))
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded')
  for (let index = 0; index < 20; index++) await system.ring(JSON.stringify({ v: 1, task }))
  const next = await system.ended(await system.submit(makePlan('next', [{ name: 'app', blueprint: 'note' }])))
  t.equal(next.outcome, 'succeeded')
  t.equal(readFileSync(`${system.directory}/runs`, 'utf8'), 'x\n')
  t.equal((await system.readEvents(task)).at(-1)?.event.type, 'taskEnded', 'nothing was recorded after the end')
  t.strictSame(await system.broker.listDeadLetters(10), [])
})

t.test('a task whose message was lost is found in the store', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const id = taskId('t-lost')
  const plan = makePlan('lost', [{ name: 'app', blueprint: 'note' }])
  await system.store.tasks.create({ id, kind: 'apply', project: 'default', deployment: 'lost', plan: JSON.stringify(plan), at: Date.now(), requestDigest: 'x', event: { type: 'taskAccepted', kind: 'apply', project: 'default', deployment: 'lost', planDigest: 'p', by: 'test' } })
  t.equal((await system.ended(id)).outcome, 'succeeded')
})

t.test('an engine drives no more tasks at once than it may, and gets to all of them', async (t) => {
  const system = await startSystem(t, { limits: { maxTasks: 2 } })
  await system.startAgent('n1')
  const tasks = []
  for (let index = 0; index < 12; index++) tasks.push(await system.submit(makePlan(`many-${index}`, [{ name: 'app', blueprint: 'note' }])))
  for (const task of tasks) t.equal((await system.ended(task)).outcome, 'succeeded')
  t.strictSame(await system.broker.listDeadLetters(10), [])
})
