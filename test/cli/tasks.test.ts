import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { startLichen, startSystem } from './system.js'

const lines = (text: string) => text.trim().split('\n')
const objects = (text: string) => text.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown> & { type: string })

t.test('tasks are read, followed, left and cancelled', { timeout: 180_000 }, async (t) => {
  const system = await startSystem(t)

  await t.test('logs prints the lines with their origin; --raw the lines alone; --json offsets to go on from', async (t) => {
    const plan = system.plan({ talks: { blueprint: 'script', with: { script: 'echo one; echo two; echo three' } } }, 'talking')
    t.equal((await system.lichen('apply', plan)).code, 0)
    t.match((await system.lichen('logs', 'latest')).stdout, /^\d\d:\d\d:\d\d node-1 talks\/run \| two$/m)
    const raw = lines((await system.lichen('logs', '--raw')).stdout)
    t.same(raw.filter((line) => /^(one|two|three)$/.test(line)), ['one', 'two', 'three'])
    const records = objects((await system.lichen('logs', '--json')).stdout)
    const two = records.find((record) => record['text'] === 'two')
    const rest = objects((await system.lichen('logs', '--json', '--offset', String(two?.['offset']))).stdout)
    t.same(rest, records.slice(records.indexOf(two!) + 1), 'nothing twice, nothing missing')
    t.equal((await system.lichen('logs', '--node', 'elsewhere')).stdout, '')
  })

  await t.test('--no-follow ends at once; tasks show, events, follow and cancel find it; a cancelled task is exit code 1', async (t) => {
    const plan = system.plan({ sleeps: { blueprint: 'script', with: { script: 'echo asleep; sleep 60' } } }, 'sleeping')
    const submitted = await system.lichen('apply', plan, '--no-follow', '--json')
    t.equal(submitted.code, 0)
    const { id } = JSON.parse(submitted.stdout) as { id: string }
    await eventually(t, 'the script runs', async () => (await system.lichen('logs', id, '--raw')).stdout.includes('asleep'))
    t.match(await system.lichen('tasks', 'show', id), { code: 0, stdout: /sleeps\/run +node-1 +runs/ })
    t.match((await system.lichen('tasks', 'ls')).stdout, new RegExp(`${id} +apply +default/sleeping +running`))
    t.match((await system.lichen('tasks', 'events', id)).stdout, /1 .* taskAccepted[^]*actionSent/)
    const following = startLichen(t, system.directory, ['tasks', 'follow', id])
    await eventually(t, 'it follows', () => following.stdout().includes('sleeps/run on node-1: runs'))
    t.match(await system.lichen('tasks', 'cancel', id, '--reason', 'enough'), { code: 0 })
    t.match(await following.ended, { code: 1, stdout: /cancel requested by .*enough[^]*sleeps\/run on node-1: cancelled[^]*apply sleeping cancelled/ })
  })

  await t.test('Ctrl-C while following: the task goes on, and the way back is said; exit code 130', async (t) => {
    const plan = system.plan({ lasts: { blueprint: 'script', with: { script: 'until test -e go; do sleep 0.05; done' } } }, 'lasting')
    const following = startLichen(t, system.directory, ['apply', plan])
    await eventually(t, 'it follows', () => following.stdout().includes('lasts/run on node-1: runs'))
    following.child.kill('SIGINT')
    const { code, stderr } = await following.ended
    t.equal(code, 130)
    const id = /task (t-\S+) goes on/.exec(stderr)?.[1] ?? ''
    t.match(stderr, `lichen tasks follow ${id}`)
    t.match(stderr, `lichen cancel ${id}`)
    t.match(JSON.parse((await system.lichen('tasks', 'show', id, '--json')).stdout), { state: 'running' })
    writeFileSync(join(system.workspace, 'go'), '')
    t.match(await system.lichen('tasks', 'follow', id), { code: 0, stdout: /succeeded/ })
  })

  await t.test('tasks show --timing tells where the time went', async (t) => {
    t.match((await system.lichen('tasks', 'show', 'latest', '--timing')).stdout, /TOOK +ACTION +NODE +COMMAND[^]*lasts\/run +node-1 +run: run the script/)
  })

  await t.test('a reader that closes the pipe early is no error', async (t) => {
    const reading = startLichen(t, system.directory, ['tasks', 'events', 'latest', '-f'])
    reading.child.stdout.destroy()
    t.match(await reading.ended, { code: 0, stderr: '' })
  })
})
