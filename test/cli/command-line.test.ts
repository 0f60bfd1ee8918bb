import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { runLichen, startLichen, startSystem } from './system.js'

const lines = (text: string) => text.trim().split('\n')
const objects = (text: string) => lines(text).map((line) => JSON.parse(line) as Record<string, unknown> & { type: string })

t.test('against a running server', async (t) => {
  const system = await startSystem(t)
  const textPlan = system.plan({ greeting: { blueprint: 'text-file', with: { text: 'hello' } } }, 'text')

  await t.test('apply follows a task to its end: plain lines with times in a pipe, a summary, exit code 0', async (t) => {
    const { code, stdout } = await system.lichen('apply', textPlan)
    t.equal(code, 0, stdout)
    t.match(stdout, /^apply text: task t-\S+$/m)
    t.match(stdout, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ planned: 2 actions$/m)
    t.match(stdout, /Z greeting\/write on node-1: changed in /)
    t.match(stdout, /apply text succeeded: 1 changed, 1 unchanged, 0 failed, in \d/)
    t.notMatch(stdout, /\u001b/, 'no escape sequences in a pipe')
    t.equal(readFileSync(join(system.workspace, 'greeting.txt'), 'utf8'), 'hello\n')
  })

  await t.test('a second apply says that nothing had to change', async (t) => {
    const { code, stdout } = await system.lichen('apply', textPlan)
    t.equal(code, 0)
    t.match(stdout, /0 changed, 2 unchanged, 0 failed.* Nothing had to change\./)
  })

  await t.test('--json prints the task, each event and a summary, one object a line', async (t) => {
    const { code, stdout } = await system.lichen('apply', textPlan, '--json')
    t.equal(code, 0)
    const all = objects(stdout)
    t.equal(all[0]?.type, 'task')
    const events = all.filter((object) => object.type === 'event')
    t.same(events.map((event) => event['seq']), events.map((_event, index) => index + 1), 'every event once, in order')
    t.match(all.at(-1), { type: 'summary', outcome: 'succeeded', counts: { changed: 0, unchanged: 2, failed: 0 } })
  })

  await t.test('check shows a diff of what was changed by hand, and --exit-code makes it a failure', async (t) => {
    t.match(await system.lichen('check', textPlan, '--exit-code'), { code: 0, stdout: /Nothing differs from the plan/ })
    writeFileSync(join(system.workspace, 'greeting.txt'), 'changed by hand\n')
    const { code, stdout } = await system.lichen('check', textPlan)
    t.equal(code, 0)
    t.match(stdout, /^ {4}-changed by hand\n {4}\+hello$/m)
    t.match(stdout, /1 differ/)
    t.match((await startLichen(t, system.directory, ['check', textPlan], { FORCE_COLOR: '1' }).ended).stdout, '\u001b[31m-changed by hand\u001b[39m', 'coloured where colours are wanted')
    t.equal((await system.lichen('check', textPlan, '--exit-code')).code, 1)
    t.equal(readFileSync(join(system.workspace, 'greeting.txt'), 'utf8'), 'changed by hand\n', 'a check changes nothing')
  })

  await t.test('preview shows the commands and a digest; apply takes the digest and refuses it once the plan has moved', async (t) => {
    const { code, stdout } = await system.lichen('preview', textPlan)
    t.equal(code, 0, stdout)
    t.match(stdout, /greeting\/write on node-1\n {2}file {6}write the text {2}\/\S+\/node\/greeting\.txt$/m)
    const digest = /digest ([0-9a-f]{64})/.exec(stdout)?.[1] ?? ''
    t.match(await system.lichen('apply', textPlan, '--preview', digest), { code: 0 })
    const other = system.plan({ greeting: { blueprint: 'text-file', with: { text: 'other' } } }, 'text')
    t.match(await system.lichen('apply', other, '--preview', digest), { code: 2, stderr: /PREVIEW_MOVED/ })
  })

  await t.test('a task that fails: what, where, code, message, its last lines and the next command; exit code 1', async (t) => {
    const plan = system.plan({ breaks: { blueprint: 'script', with: { script: 'for i in $(seq 1 30); do echo line $i; done; echo the reason >&2; exit 7' } } }, 'failing')
    const { code, stdout } = await system.lichen('apply', plan)
    t.equal(code, 1, stdout)
    t.match(stdout, /^breaks\/run on node-1: failed\n {2}command "run the script": .*7.* \([A-Z_]+\)$/m)
    t.match(stdout, /\| line 30\n/)
    t.match(stdout, /\| the reason$/m)
    t.notMatch(stdout, /\| line 1\n/, 'the last lines only')
    const id = /task (t-\S+)/.exec(stdout)?.[1]
    t.match(stdout, `Next: lichen tasks retry ${id}`)
    const json = objects((await system.lichen('apply', plan, '--json')).stdout).at(-1)
    t.match(json, { type: 'summary', outcome: 'failed', failures: [{ action: 'breaks/run@node-1', node: 'node-1', state: 'failed', failure: { command: 'run the script' } }] })
  })

  await t.test('retry starts over what failed and follows it', async (t) => {
    const plan = system.plan({ heals: { blueprint: 'script', with: { script: 'test -e healed' } } }, 'healing')
    t.equal((await system.lichen('apply', plan)).code, 1)
    writeFileSync(join(system.workspace, 'healed'), '')
    const { code, stdout } = await system.lichen('tasks', 'retry', 'latest')
    t.equal(code, 0, stdout)
    t.match(stdout, /heals\/run on node-1: runs again \(attempt 2\)/)
    t.notMatch(stdout, /failed \(|: failed/, 'what happened before the retry is not told again')
  })

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

  await t.test('apply --logs shows the task log beside', async (t) => {
    const plan = system.plan({ chats: { blueprint: 'script', with: { script: 'echo beside' } } }, 'chatting')
    t.match(await system.lichen('apply', plan, '--logs'), { code: 0, stdout: /Z node-1 chats\/run \| beside$/m })
    const again = system.plan({ chats2: { blueprint: 'script', with: { script: 'echo beside' } } }, 'chatting')
    const all = objects((await system.lichen('apply', again, '--logs', '--json')).stdout)
    t.match(all.filter((object) => object.type === 'log' && object['text'] === 'beside'), [{ node: 'node-1', action: 'chats2/run@node-1' }])
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
    t.match(stderr, `lichen tasks cancel ${id}`)
    t.match(JSON.parse((await system.lichen('tasks', 'show', id, '--json')).stdout), { state: 'running' })
    writeFileSync(join(system.workspace, 'go'), '')
    t.match(await system.lichen('tasks', 'follow', id), { code: 0, stdout: /succeeded/ })
  })

  await t.test('tasks show --timing tells where the time went', async (t) => {
    t.match((await system.lichen('tasks', 'show', 'latest', '--timing')).stdout, /TOOK +ACTION +NODE +COMMAND[^]*lasts\/run +node-1 +run: run the script/)
  })

  await t.test('every problem of a plan is shown with its path and code; exit code 2', async (t) => {
    const plan = system.plan({ one: { blueprint: 'nonsense' }, two: { blueprint: 'text-file', with: { text: 5 } } }, 'wrong')
    for (const command of ['apply', 'validate', 'preview']) {
      const { code, stderr } = await system.lichen(command, plan)
      t.equal(code, 2, command)
      t.match(stderr, /^ {2}components\[0\]\.blueprint: .*nonsense.* \(PLAN_UNKNOWN_BLUEPRINT\)$/m, command)
      t.match(stderr, /^ {2}components\[1\]\.with\.text: .* \(PLAN_BAD_PARAMETER\)$/m, command)
    }
    t.match(JSON.parse((await system.lichen('apply', plan, '--json')).stderr), { type: 'error', problems: [{ code: 'PLAN_UNKNOWN_BLUEPRINT' }, { code: 'PLAN_BAD_PARAMETER' }] })
    t.match(await system.lichen('validate', textPlan), { code: 0, stdout: /no problem found/ })
    const broken = join(system.directory, 'broken.yaml')
    writeFileSync(broken, 'components: [')
    t.match(await system.lichen('apply', broken), { code: 2, stderr: /PLAN_SYNTAX/ })
  })

  await t.test('nodes are listed, shown, labelled, cordoned; a plan then waits or is refused in words', async (t) => {
    t.match(await system.lichen('nodes'), { code: 0, stdout: /^node-1 +ready/m })
    t.match(await system.lichen('nodes', 'label', 'node-1', 'role=db', 'zone=a'), { code: 0, stdout: /role=db zone=a/ })
    t.match((await system.lichen('nodes', 'label', 'node-1', 'zone-')).stdout, /labels role=db\n/)
    t.match((await system.lichen('nodes', 'cordon', 'node-1')).code, 0)
    t.match((await system.lichen('nodes', 'show', 'node-1')).stdout, /ready, cordoned[^]*role=db/)
    t.match((await system.lichen('nodes', 'uncordon', 'node-1')).code, 0)
    t.match(await system.lichen('nodes', 'show', 'node-9'), { code: 2, stderr: /REQUEST_NOT_FOUND/ })
    t.match(JSON.parse((await system.lichen('nodes', '--json')).stdout), [{ id: 'node-1', state: 'ready', cordoned: false }])
  })

  await t.test('join-token prints the token alone, or cloud-init user data with it', async (t) => {
    t.match(await system.lichen('join-token', '--ttl', '30m', '--uses', '2', '--label', 'role=web'), { code: 0, stdout: /^lichen1\.[a-z0-9]+\.[\w-]+\.[0-9a-f]{64}\n$/ })
    t.match((await system.lichen('join-token', '--cloud-init')).stdout, /^#cloud-config\n[^]*gateway: "127\.0\.0\.1:\d+"[^]*token: "lichen1\./)
    t.match(await system.lichen('join-token', '--ttl', 'soon'), { code: 2, stderr: /duration such as/ })
  })

  await t.test('blueprints and dead letters are listed', async (t) => {
    t.match(await system.lichen('blueprints'), { code: 0, stdout: /^text-file +1\.0\.0 +A file with a text$/m })
    t.match(await system.lichen('blueprints', 'show', 'text-file'), { code: 0, stdout: /text-file/ })
    t.match(await system.lichen('dead-letters'), { code: 0, stdout: 'no dead letters\n' })
  })

  await t.test('a wrong token and none are exit code 4', async (t) => {
    t.match(await system.lichen('tasks', '--token', 'wrong'), { code: 4, stderr: /REQUEST_UNAUTHENTICATED[^]*not one of this server/ })
    t.match(await runLichen(t, t.testdir({}), 'tasks', '--url', system.server.apiUrl), { code: 4, stderr: /no token was sent/ })
  })

  await t.test('destroy takes away what apply made', async (t) => {
    t.equal((await system.lichen('apply', textPlan)).code, 0)
    t.match(await system.lichen('destroy', textPlan), { code: 0, stdout: /destroy text succeeded: 1 changed/ })
    t.notOk(existsSync(join(system.workspace, 'greeting.txt')))
  })

  await t.test('a reader that closes the pipe early is no error', async (t) => {
    const reading = startLichen(t, system.directory, ['tasks', 'events', 'latest', '-f'])
    reading.child.stdout.destroy()
    t.match(await reading.ended, { code: 0, stderr: '' })
  })
})

t.test('no server is exit code 3, in one line and a hint', async (t) => {
  const free = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => free.once('listening', resolve))
  const { port } = free.address() as AddressInfo
  await new Promise((resolve) => free.close(resolve))
  const { code, stderr } = await runLichen(t, t.testdir({}), 'tasks', '--url', `http://127.0.0.1:${port}`)
  t.equal(code, 3)
  t.equal(stderr, `lichen: no answer from http://127.0.0.1:${port}: connection refused\n  is \`npm start\` running? Another server: --url or LICHEN_URL\n`)
})

t.test('usage errors are exit code 2, help and version are 0', async (t) => {
  const directory = t.testdir({})
  t.match(await runLichen(t, directory, 'aply', 'x'), { code: 2, stderr: /unknown command 'aply'[^]*apply/ })
  t.match(await runLichen(t, directory, 'apply'), { code: 2, stderr: /missing required argument 'file'/ })
  t.match(await runLichen(t, directory, 'apply', 'missing.yaml'), { code: 2, stderr: 'lichen: missing.yaml: no such file\n' })
  t.match(await runLichen(t, directory, 'tasks', '--url', 'nonsense'), { code: 2, stderr: /--url: "nonsense" is no URL/ })
  t.match(await runLichen(t, directory, 'agent'), { code: 2, stderr: /--local DIRECTORY and --config FILE/ })
  t.match(await runLichen(t, directory, 'version'), { code: 0, stdout: /^\d+\.\d+\.\d+\n$/ })
  for (const args of [[], ['--help'], ['apply', '--help'], ['tasks', 'show', '--help'], ['logs', '--help']]) t.match(await runLichen(t, directory, ...args), { code: 0, stdout: /Usage: lichen/ })
})
