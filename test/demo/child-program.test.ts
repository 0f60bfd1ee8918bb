import { once } from 'node:events'
import { existsSync } from 'node:fs'
import t from 'tap'
import { runProgram, startProgram, stopProgram, waitForEnd } from '../../packages/demo/src/child-program.js'
import { eventually } from '../eventually.js'

t.test('the exit code of a program, and 128 and the number of a signal', async (t) => {
  t.equal((await runProgram(['sh', '-c', 'exit 7'])).exitCode, 7)
  t.equal((await runProgram(['sh', '-c', 'kill -TERM $$'])).exitCode, 143)
})

t.test('the end of a program that is over already', async (t) => {
  for (const [script, exitCode] of [['exit 7', 7], ['kill -KILL $$', 137]] as const) {
    const child = startProgram(['sh', '-c', script], { stdio: 'ignore' })
    await once(child, 'close')
    t.equal(await waitForEnd(child), exitCode, script)
    await stopProgram(child, 100)
  }
})

t.test('a program that does not listen is killed after its time, with what it started', async (t) => {
  const child = startProgram(['sh', '-c', 'trap "" TERM; sleep 1000 & echo $!; wait; wait'], { stdio: ['ignore', 'pipe', 'ignore'] })
  const [pid] = (await once(child.stdout!, 'data')) as [Buffer]
  await stopProgram(child, 100)
  t.equal(child.signalCode, 'SIGKILL')
  await eventually(t, 'the other is gone too', () => !existsSync(`/proc/${String(pid).trim()}`))
})
