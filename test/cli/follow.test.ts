import t from 'tap'
import { addActions, applyEvent, buildFrame, buildProgress, countActions, type FrameInput, type Progress, type Task } from '@lichen/cli'
import { makeDetail, makeGate } from './task-detail.js'

const task: Task = { id: 't-1', kind: 'apply', project: 'default', deployment: 'shop', state: 'running', outcome: null, reason: '', counts: {}, seq: 1, createdAt: 0, updatedAt: 0 }
const result = (outcome: string, changed = true) => ({ outcome, changed, commands: [], outputs: {}, startedAt: 0, endedAt: 0, ...(outcome === 'failed' ? { failure: { code: 'COMMAND_EXIT', message: 'exit code 1' } } : {}) })

function makeProgress(components: number, nodes = 1): Progress {
  const progress = buildProgress(0)
  for (let index = 0; index < components; index++) {
    for (let node = 1; node <= nodes; node++) addActions(progress, [{ id: `c${index}/install@n${node}`, component: `c${index}`, name: 'install', node: `n${node}` }])
  }
  return progress
}

const makeFrame = (progress: Progress, change: Partial<FrameInput> = {}): string[] =>
  buildFrame({ task, progress, detail: undefined, tail: [], trouble: '', now: 5_000, columns: 100, rows: 24, style: (_style, text) => text, ...change })

t.test('events fold into a picture: sent, failed, retried, succeeded', async (t) => {
  const progress = makeProgress(1)
  const action = 'c0/install@n1'
  applyEvent(progress, { seq: 1, at: 0, event: { type: 'taskClaimed', engine: 'e', epoch: 1 } })
  applyEvent(progress, { seq: 2, at: 1000, event: { type: 'actionSent', action, attempt: 1, node: 'n1', epoch: 1, deadline: 9 } })
  t.match(countActions(progress), { total: 1, running: 1 })
  applyEvent(progress, { seq: 3, at: 2000, event: { type: 'actionEnded', action, attempt: 1, result: result('failed') } })
  applyEvent(progress, { seq: 4, at: 2000, event: { type: 'actionRetryPlanned', action, attempt: 1, notBefore: 4000, reason: 'exit code 1' } })
  t.match(progress.actions.get(action), { state: 'waitingRetry', reason: 'exit code 1' })
  applyEvent(progress, { seq: 5, at: 4000, event: { type: 'actionSent', action, attempt: 2, node: 'n1', epoch: 1, deadline: 9 } })
  applyEvent(progress, { seq: 6, at: 5000, event: { type: 'actionEnded', action, attempt: 2, result: result('succeeded', false) } })
  applyEvent(progress, { seq: 7, at: 5001, event: { type: 'taskEnded', outcome: 'succeeded', reason: '' } })
  t.match(countActions(progress), { unchanged: 1, changed: 0, failed: 0 })
  t.match(progress, { state: 'ended', outcome: 'succeeded', endedAt: 5001 })
})

t.test('an event that is seen again changes nothing', async (t) => {
  const progress = makeProgress(1)
  const ended = { seq: 2, at: 1, event: { type: 'taskEnded', outcome: 'failed', reason: 'x' } }
  applyEvent(progress, ended)
  applyEvent(progress, { seq: 3, at: 2, event: { type: 'retryRequested', by: 'me' } })
  applyEvent(progress, ended)
  t.equal(progress.state, 'running')
})

t.test('a retry starts over what did not succeed and leaves what did', async (t) => {
  const progress = makeProgress(2)
  applyEvent(progress, { seq: 1, at: 1, event: { type: 'actionEnded', action: 'c0/install@n1', attempt: 1, result: result('succeeded') } })
  applyEvent(progress, { seq: 2, at: 1, event: { type: 'actionEnded', action: 'c1/install@n1', attempt: 1, result: result('failed') } })
  applyEvent(progress, { seq: 3, at: 2, event: { type: 'retryRequested', by: 'me' } })
  t.match(countActions(progress), { changed: 1, failed: 0, waiting: 1 })
})

t.test('a retry on some nodes leaves those on others as they are', async (t) => {
  const progress = makeProgress(1, 2)
  for (const [seq, node] of [[1, 'n1'], [2, 'n2']] as const) applyEvent(progress, { seq, at: 1, event: { type: 'actionEnded', action: `c0/install@${node}`, attempt: 1, result: result('failed') } })
  applyEvent(progress, { seq: 3, at: 2, event: { type: 'retryRequested', by: 'me', nodes: ['n2'] } })
  t.match(countActions(progress), { failed: 1, waiting: 1 })
  t.equal(progress.actions.get('c0/install@n1')?.state, 'failed')
})

t.test('pause, resume and the time limit of a task are states of the picture', async (t) => {
  const progress = makeProgress(1)
  const states = ['pauseRequested', 'resumeRequested', 'taskLimitReached'].map((type, index) => {
    applyEvent(progress, { seq: index + 1, at: 1, event: { type, by: 'ann', reason: '' } })
    return progress.state
  })
  t.same(states, ['paused', 'running', 'cancelling'])
})

t.test('what did not run because nothing changed is done, and counted by itself', async (t) => {
  const progress = makeProgress(1, 3)
  applyEvent(progress, { seq: 1, at: 1, event: { type: 'actionUnchanged', action: 'c0/install@n1', since: 't-0', reason: 'as in t-0' } })
  applyEvent(progress, { seq: 2, at: 1, event: { type: 'actionUnchanged', action: 'c0/install@n2', since: 't-0', reason: 'as in t-0' } })
  applyEvent(progress, { seq: 3, at: 1, event: { type: 'actionEnded', action: 'c0/install@n3', attempt: 1, result: result('succeeded', false) } })
  t.match(countActions(progress), { unchanged: 3, notRun: 2, changed: 0, waiting: 0 })
  t.match(makeFrame(progress)[0], /3 of 3 done \(2 unchanged\)/)
})

t.test('the look after what is unchanged is no action of the plan: it counts when it is trouble', async (t) => {
  const progress = makeProgress(1)
  addActions(progress, [{ id: 'lichen/verify@n1', component: 'lichen', name: 'verify', node: 'n1' }])
  applyEvent(progress, { seq: 1, at: 1, event: { type: 'actionEnded', action: 'lichen/verify@n1', attempt: 1, result: result('succeeded', true) } })
  t.match(countActions(progress), { total: 1, changed: 0, waiting: 1 }, 'a difference that it found is no change that was made')
  applyEvent(progress, { seq: 2, at: 1, event: { type: 'actionEnded', action: 'lichen/verify@n1', attempt: 2, result: result('failed') } })
  t.match(countActions(progress), { total: 2, failed: 1 })
})

t.test('an unknown outcome is settled by a person, or runs again', async (t) => {
  const progress = makeProgress(1, 2)
  const [first, second] = ['c0/install@n1', 'c0/install@n2'] as const
  for (const [seq, action] of [[1, first], [2, second]] as const) applyEvent(progress, { seq, at: 1, event: { type: 'actionEnded', action, attempt: 1, result: result('unknown') } })
  t.match(countActions(progress), { unknown: 2, failed: 0 })
  t.match(makeFrame(progress).join('\n'), /2 unknown[^]*\? install .*unknown whether it happened/)
  applyEvent(progress, { seq: 3, at: 2, event: { type: 'actionSettled', action: first, attempt: 1, as: 'succeeded', by: 'ann', reason: 'I looked' } })
  applyEvent(progress, { seq: 4, at: 2, event: { type: 'actionRunAgain', action: second, attempt: 1, by: 'ann', reason: 'harmless' } })
  t.match(countActions(progress), { unknown: 0, changed: 1, waiting: 1 }, 'it is not known that nothing changed')
  t.match(progress.actions.get(first), { state: 'succeeded', isSettled: true, reason: 'ann: I looked' })
})

t.test('an action that was not listed yet is named from its id', async (t) => {
  const progress = buildProgress(0)
  applyEvent(progress, { seq: 1, at: 1, event: { type: 'actionSent', action: 'db/grant:keystone.database@node-2', attempt: 1, node: 'node-2', epoch: 1, deadline: 2 } })
  t.match([...progress.actions.values()], [{ component: 'db', name: 'grant:keystone.database', node: 'node-2', state: 'sent' }])
})

t.test('a frame shows states, elapsed time, reasons of waiting and the newest log lines', async (t) => {
  const progress = makeProgress(3)
  applyEvent(progress, { seq: 1, at: 1000, event: { type: 'actionSent', action: 'c0/install@n1', attempt: 1, node: 'n1', epoch: 1, deadline: 9 } })
  applyEvent(progress, { seq: 2, at: 3000, event: { type: 'actionEnded', action: 'c0/install@n1', attempt: 1, result: result('succeeded') } })
  applyEvent(progress, { seq: 3, at: 3000, event: { type: 'actionSent', action: 'c1/install@n1', attempt: 2, node: 'n1', epoch: 1, deadline: 9 } })
  const detail = makeDetail({ waiting: [{ action: 'c2/install@n1', node: 'n1', state: 'pending', reason: 'waits for c1/install@n1', since: 0, until: null, owner: 'engine' }] })
  const tail = [{ offset: 1, at: 1, node: 'n1', action: 'c1/install@n1', attempt: 1, stream: 'stdout' as const, text: 'Setting up \u001b[31mc1\u0007' }]
  const text = makeFrame(progress, { detail, tail }).join('\n')
  t.match(text, /apply shop {2}t-1 {2}5\.0 s {2}1 of 3 done, 1 running/)
  t.match(text, /✔ c0 .*1\/1 .*2\.0 s/)
  t.match(text, /● install .*n1 .*2\.0 s {2}attempt 2/)
  t.match(text, /○ install .*n1 .*waits for c1\/install@n1/)
  t.match(text, /n1 c1\/install │ Setting up c1$/, 'without the escape sequences of the node')
})

t.test('a frame says that a person is needed, which wave is under way, and that the task is paused', async (t) => {
  const progress = makeProgress(1, 3)
  applyEvent(progress, { seq: 1, at: 1000, event: { type: 'actionEnded', action: 'c0/install@n1', attempt: 1, result: result('succeeded') } })
  const gates = [makeGate('c0/all-install', { state: 'closed', meaning: 'install of c0 on n1, n2 and n3' }), makeGate('c0/wave-1', { state: 'waiting', approve: true, meaning: 'wave 1 of 2 of c0 (canary: n1)' }), makeGate('c0/wave-2')]
  const text = makeFrame(progress, { detail: makeDetail({ gates }) }).join('\n')
  t.match(text, /^ {2}waits for a person: 1 approval$/m)
  t.match(text, /c0 .*1\/3 .*wave 1 of 2 of c0 \(canary: n1\)/, 'the barrier that only keeps the order is not told')
  applyEvent(progress, { seq: 2, at: 2000, event: { type: 'pauseRequested', by: 'ann', reason: 'lunch' } })
  const paused = makeFrame(progress, { detail: makeDetail({ state: 'paused', reason: 'paused by ann: lunch', gates }) }).join('\n')
  t.match(paused, /paused, 1 of 3 done[^]*waits for a person: paused, 1 approval/)
})

t.test('a frame never exceeds the window, whatever the plan', async (t) => {
  for (const [components, nodes] of [[1, 500], [300, 1], [40, 40]] as const) {
    const progress = makeProgress(components, nodes)
    let seq = 0
    for (const action of progress.actions.keys()) {
      seq++
      if (seq % 3 === 0) applyEvent(progress, { seq, at: 1, event: { type: 'actionSent', action, attempt: 1, node: 'n1', epoch: 1, deadline: 9 } })
      if (seq % 7 === 0) applyEvent(progress, { seq, at: 1, event: { type: 'actionEnded', action, attempt: 1, result: result('failed') } })
    }
    for (const [columns, rows] of [[80, 24], [40, 10], [200, 60], [20, 5]] as const) {
      const gates = [...Array(40).keys()].map((index) => makeGate(`c${index}/wave-1`, { state: 'waiting', approve: true, meaning: `wave 1 of 2 of c${index} (${'a-long-name, '.repeat(20)})` }))
      const frame = makeFrame(progress, { columns, rows, trouble: 'connection lost', detail: makeDetail({ gates }) })
      t.ok(frame.length < rows, `${components}x${nodes} in ${rows} rows: ${frame.length}`)
      t.ok(frame.every((line) => line.length < Math.max(columns, 11)), `${components}x${nodes} in ${columns} columns`)
    }
  }
})
