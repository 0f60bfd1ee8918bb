import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { actionOf, makePlan, startSystem } from './system.js'

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

t.test('a cancel ends the running command with its whole process group, skips the rest, and the task says so', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const pidFile = join(system.directory, 'pid')
  const task = await system.submit(makePlan('cancel', [
    { name: 'long', blueprint: 'script', with: { script: `sleep 600 & echo $! > ${pidFile}; wait` } },
    { name: 'after', blueprint: 'note', after: ['long'] },
  ]))
  const pid = await eventually(t, 'the command runs', () => Number(readFileSync(pidFile, 'utf8')))
  t.ok(isAlive(pid))
  const { seq, counts } = await system.readView(task)
  await system.store.tasks.append([{ task, expectedSeq: seq, epoch: null, at: Date.now(), events: [{ type: 'cancelRequested', by: 'ann', reason: 'wrong plan' }], announce: true, summary: { state: 'cancelling', outcome: null, reason: 'cancel requested', counts } }])
  await system.ring(JSON.stringify({ v: 1, task }))
  const view = await system.ended(task)
  t.match(view, { outcome: 'cancelled' })
  t.match(view.reason, /^cancel requested by ann: wrong plan; 1 cancelled, 1 skipped$/)
  t.match(actionOf(view, 'long/'), { state: 'cancelled' })
  t.match(actionOf(view, 'after/'), { state: 'skipped', reason: 'cancelled' })
  await eventually(t, 'the process is gone', () => !isAlive(pid))
})

t.test('a cancel reaches a node that was away when it was asked for', async (t) => {
  const system = await startSystem(t)
  const first = await system.startAgent('n1')
  const pidFile = join(system.directory, 'pid')
  const task = await system.submit(makePlan('away', [{ name: 'long', blueprint: 'checked', with: { script: `echo $$ > ${pidFile}; sleep 600`, creates: join(system.directory, 'never') } }]))
  await eventually(t, 'the command runs', () => Number(readFileSync(pidFile, 'utf8')))
  await first.stop()
  const { seq, counts } = await system.readView(task)
  await system.store.tasks.append([{ task, expectedSeq: seq, epoch: null, at: Date.now(), events: [{ type: 'cancelRequested', by: 'ann', reason: '' }], announce: true, summary: { state: 'cancelling', outcome: null, reason: 'cancel requested', counts } }])
  await system.ring(JSON.stringify({ v: 1, task }))
  await eventually(t, 'the engine has read it', async () => (await system.readView(task)).state === 'cancelling')
  await system.startAgent('n1')
  const view = await system.ended(task)
  t.equal(view.outcome, 'cancelled')
  t.not(actionOf(view, 'long/').state, 'sent')
})

t.test('a task that is cancelled before an engine took it touches no node', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  await system.stopEngine()
  const task = await system.submit(makePlan('early', [{ name: 'app', blueprint: 'note' }]))
  await system.store.tasks.append([{ task, expectedSeq: 1, epoch: null, at: Date.now(), events: [{ type: 'cancelRequested', by: 'ann', reason: '' }], announce: true, summary: { state: 'cancelling', outcome: null, reason: 'cancel requested', counts: {} } }])
  await system.startEngine()
  const view = await system.ended(task)
  t.match(view, { outcome: 'cancelled', reason: 'cancel requested by ann; nothing was begun' })
  t.equal(view.graph, null)
})
