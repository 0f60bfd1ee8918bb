// Child process of sqlite.test.ts: appends events and log bytes to task t-1 as fast as it can and prints the number of each committed event. argv: path.
import { actionId, nodeId, taskId } from '@lichen/core'
import { openSqliteStore } from '@lichen/store'

const store = await openSqliteStore({ path: process.argv[2] ?? '' })
const task = taskId('t-1')
await store.tasks.create({
  id: task, kind: 'apply', project: 'p', deployment: 'd', plan: '{}', at: 1, requestDigest: 'r',
  event: { type: 'taskAccepted', kind: 'apply', project: 'p', deployment: 'd', planDigest: 'x', by: 'child' },
})
const data = Buffer.alloc(2_000, 'x')
for (let seq = 1; ; seq++) {
  await Promise.all([
    store.tasks.append([{ task, expectedSeq: seq, epoch: null, events: [{ type: 'actionSkipped', action: actionId('a'), reason: 'x'.repeat(300) }], at: 1 }]),
    store.logs.appendLog([{ task, action: actionId('a'), attempt: 1, node: nodeId('n'), position: (seq - 1) * data.length, command: 0, stream: 'stdout', at: 1, data }]),
  ])
  process.stdout.write(`${seq + 1}\n`)
}
