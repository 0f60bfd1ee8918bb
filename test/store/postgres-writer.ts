// Child process of postgres-outage.test.ts: appends events and log bytes to the task that it makes as fast as it can and prints the number of each committed event. argv: URL of the store, id of the task, idleTransactionMs.
import { actionId, nodeId, taskId } from '@lichen/core'
import { openPostgresStore } from '@lichen/store'

const store = await openPostgresStore({ url: process.argv[2] ?? '', limits: { idleTransactionMs: Number(process.argv[4]) } })
const task = taskId(process.argv[3] ?? '')
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
