import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { startLichen, startSystem } from './system.js'

t.test('following a task and its log goes on across a restart of the server: nothing twice, nothing missing', async (t) => {
  const system = await startSystem(t)
  const script = 'for i in $(seq 1 40); do echo line $i; done; until test -e go; do sleep 0.05; done; for i in $(seq 41 80); do echo line $i; done'
  const plan = system.plan({ talks: { blueprint: 'script', with: { script } } })
  const following = startLichen(t, system.directory, ['apply', plan])
  await eventually(t, 'it follows', () => following.stdout().includes('talks/run on node-1: runs'))
  const reading = startLichen(t, system.directory, ['logs', '-f', 'latest', '--raw'])
  await eventually(t, 'the log is read so far', () => reading.stdout().includes('line 40\n'))

  await system.restart(async () => {
    await eventually(t, 'both notice', () => reading.stderr().includes('connection lost') && following.stderr().includes('connection lost'))
    writeFileSync(join(system.workspace, 'go'), '')
  })

  const [log, followed] = await Promise.all([reading.ended, following.ended])
  t.equal(log.code, 0, log.stderr)
  t.match(log.stderr, /connected again/)
  t.same(log.stdout.match(/^line \d+$/gm), Array.from({ length: 80 }, (_line, index) => `line ${index + 1}`))
  t.equal(followed.code, 0, followed.stderr)
  t.match(followed.stdout, /apply test succeeded: 1 changed/)
  t.equal(followed.stdout.match(/talks\/run on node-1: runs$/gm)?.length, 1, 'each event once')
})
