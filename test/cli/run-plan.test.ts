import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startLichen, startSystem } from './system.js'

const objects = (text: string) => text.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown> & { type: string })

t.test('plans are previewed, applied, checked, retried and destroyed', { timeout: 180_000 }, async (t) => {
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
    t.match(stdout, /0 changed, 2 unchanged \(2 without a run\), 0 failed.* Nothing had to change\./)
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
    const { code, stdout } = await system.lichen('preview', textPlan, '--all')
    t.equal(code, 0, stdout)
    t.match(stdout, /greeting\/write on node-1.*\n(?: {2}after .*\n)? {2}file {6}write the text {2}\/\S+\/node\/greeting\.txt$/m)
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
    t.match(stdout, `Next: lichen retry ${id}`)
    const json = objects((await system.lichen('apply', plan, '--json')).stdout).at(-1)
    t.match(json, { type: 'summary', outcome: 'failed', failures: [{ action: 'breaks/run@node-1', node: 'node-1', state: 'failed', failure: { command: 'run the script' } }] })
  })

  await t.test('the last lines have what was printed to stderr, also when much of stdout comes after it', async (t) => {
    const script = 'echo the reason >&2; sleep 0.3; for i in $(seq 1 30); do echo line $i; done; exit 7'
    const { code, stdout } = await system.lichen('apply', system.plan({ breaks: { blueprint: 'script', with: { script } } }, 'flooded'))
    t.equal(code, 1, stdout)
    t.match(stdout, /\| the reason\n {2}\| line 22\n(?: {2}\| line \d+\n){7} {2}\| line 30\n/)
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

  await t.test('apply --logs shows the task log beside', async (t) => {
    const plan = system.plan({ chats: { blueprint: 'script', with: { script: 'echo beside' } } }, 'chatting')
    t.match(await system.lichen('apply', plan, '--logs'), { code: 0, stdout: /Z node-1 chats\/run \| beside$/m })
    const again = system.plan({ chats2: { blueprint: 'script', with: { script: 'echo beside' } } }, 'chatting')
    const all = objects((await system.lichen('apply', again, '--logs', '--json')).stdout)
    t.match(all.filter((object) => object.type === 'log' && object['text'] === 'beside'), [{ node: 'node-1', action: 'chats2/run@node-1' }])
  })

  await t.test('destroy takes away what apply made', async (t) => {
    t.equal((await system.lichen('apply', textPlan)).code, 0)
    t.match(await system.lichen('destroy', textPlan), { code: 0, stdout: /destroy text succeeded: 1 changed/ })
    t.notOk(existsSync(join(system.workspace, 'greeting.txt')))
  })
})
