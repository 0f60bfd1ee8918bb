// Where an agent that is started again goes on reading a program's output: what the chunks that its predecessors left behind say.
import { join } from 'node:path'
import { attemptKeyText, LogStream } from '@lichen/protocol'
import t, { type Test } from 'tap'
import { nodeDisk } from '../../packages/agent/dist/disk/node-disk.js'
import { AttemptLog, defaultLogLimits } from '../../packages/agent/dist/output/attempt-log.js'
import { lineStart } from '../../packages/agent/dist/output/line-stream.js'
import { Masker } from '../../packages/agent/dist/output/masker.js'
import { Outbox } from '../../packages/agent/dist/output/outbox.js'
import { eventually } from '../eventually.js'
import { clock, makeDirectory, quiet } from './agent.js'

const key = { taskId: 't-1', actionId: 'a/run@node-1', attempt: 1 }
const run = 'program of the command'
const lines = Buffer.from('one\ntwo\n')
const place = { position: lines.length, lines: 0, isContinuing: false }

/** One life of an agent: the outbox over what the one before left on the disk, and the log of the attempt. At its end the engine has everything. */
async function live(t: Test, directory: string, body: (log: AttemptLog) => void): Promise<void> {
  const outbox = new Outbox({ directory: join(directory, 'spool'), disk: nodeDisk, clock, log: quiet, limitBytes: 1e6, onFatal: (error) => t.fail(String(error)) })
  const log = new AttemptLog({ key, outbox, clock, limits: defaultLogLimits, masker: new Masker([]) })
  body(log)
  log.close()
  const keyText = attemptKeyText(key)
  // What is not on the disk yet is not sent.
  await eventually(t, 'everything is acknowledged', () => {
    for (let next = outbox.next(1e6); next !== undefined; next = outbox.next(1e6)) {
      if (next.type !== 'log') continue
      const { head, place } = next.chunk
      outbox.acknowledgeLog(keyText, head.position + place.sizeBytes)
      if (head.position + place.sizeBytes === outbox.endPosition(keyText)) return true
    }
    return false
  })
  await outbox.close()
}

t.test('after a second restart a program is read on from where it was read before the first, though only lines of the agent came since', async (t) => {
  const directory = makeDirectory(t)
  await live(t, directory, (log) => {
    t.same(log.beginRun(run), { stdout: lineStart, stderr: lineStart }, 'a new program is read from its beginning')
    log.write(LogStream.STDOUT, lines, place)
  })
  // This one is killed before it reads anything; its own line is all that is left in the spool then.
  await live(t, directory, (log) => log.say('=== the agent was restarted'))
  await live(t, directory, (log) => {
    t.same(log.beginRun(run), { stdout: place, stderr: lineStart }, 'nothing of it is read twice')
    t.same(log.beginRun('another program'), { stdout: lineStart, stderr: lineStart })
    log.say('the end')
  })
})
