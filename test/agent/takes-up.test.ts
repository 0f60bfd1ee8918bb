// A program that goes on under the next agent, from where the one before left it.
import { join } from 'node:path'
import { attemptKeyText, LogStream } from '@lichen/protocol'
import t from 'tap'
import { nodeDisk } from '../../packages/agent/dist/disk/node-disk.js'
import { AttemptLog, defaultLogLimits } from '../../packages/agent/dist/output/attempt-log.js'
import { Masker } from '../../packages/agent/dist/output/masker.js'
import { Outbox } from '../../packages/agent/dist/output/outbox.js'
import { openNodePrograms } from '../../packages/agent/dist/programs/node-programs.js'
import type { Programs } from '../../packages/agent/dist/programs/programs.js'
import { Deadline } from '../../packages/agent/dist/run/deadline.js'
import { resumeSupervised } from '../../packages/agent/dist/run/execution.js'
import { readBootId } from '../../packages/agent/dist/programs/process-group.js'
import { clock, makeDirectory, quiet } from './agent.js'
import { endRuns } from './runs.js'

const key = { taskId: 't-1', actionId: 'a/run@node-1', attempt: 1 }
const run = 'talkative'
const argv = ['/bin/sh', '-c', 'yes "a line of 32 bytes, newline too" | head -c 33554432; echo the end']
const environment = { PATH: '/usr/bin:/bin' }

/** Starts the program and reads until it waits for its output to be given up, which does not happen; gives back how much that was. */
async function readUntilItWaits(programs: Programs): Promise<number> {
  let read = 0
  let readAt = Date.now()
  const running = programs.supervise(run, { argv, env: environment, cwd: '/', stdin: undefined }, { limitMs: 100_000, keepsStart: false }, {
    onOutput: (name, _bytes, end) => {
      if (name === 'stdout') [read, readAt] = [end, Date.now()]
    },
    onEnd: () => {},
  })
  while (read === 0 || Date.now() - readAt < 2000) await new Promise((resolve) => setTimeout(resolve, 20))
  running.detach()
  return read
}

t.test('a program that waits for its output to be given up goes on under the next agent, though that one reads nothing new before', { timeout: 60_000 }, async (t) => {
  const directory = makeDirectory(t)
  t.teardown(() => endRuns(directory))
  const programs = openNodePrograms({ directory: join(directory, 'runs'), clock, bootId: readBootId() })
  const position = await readUntilItWaits(programs)
  t.ok(position > 0 && position < 33554432, `it waits after ${position} bytes`)
  // The agent died when all of that was spooled, and nothing of it given up yet.
  const outbox = new Outbox({ directory: join(directory, 'spool'), disk: nodeDisk, clock, log: quiet, limitBytes: 1e8, onFatal: (error) => t.fail(String(error)) })
  const source = { run, stdout: { position, lines: 0, isContinuing: false }, stderr: { position: 0, lines: 0, isContinuing: false }, passed: 0 }
  outbox.append({ key, position: 0, command: 0, stream: LogStream.STDOUT, at: 0, source }, [Buffer.from('line\n')], 5)
  const log = new AttemptLog({ key, outbox, clock, limits: defaultLogLimits, masker: new Masker([]) })
  const context = { log, outbox, programs, deadline: new Deadline(clock), environment, defaultCwd: '/', onStart: () => {} }
  const ended = resumeSupervised(run, {}, context)
  t.equal(await Promise.race([ended.then((execution) => execution?.exitCode), new Promise((resolve) => setTimeout(() => resolve('it waits for ever'), 30_000).unref())]), 0)
  log.close()
  t.ok(outbox.endPosition(attemptKeyText(key)) > 33554432 - position, 'the rest was read')
  await outbox.close()
})
