import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { startLichen, startSystem } from './system.js'

const objects = (text: string) => text.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown> & { type: string })
const taskOf = (text: string): string => /task (t-\S+)/.exec(text)?.[1] ?? ''

t.test('people are asked, and answer, on the command line', { timeout: 240_000 }, async (t) => {
  const system = await startSystem(t)
  const isThere = (file: string) => existsSync(join(system.workspace, file))

  await t.test('engines are listed, and a node says at which its stream ends', async (t) => {
    t.match(await system.lichen('engines'), { code: 0, stdout: /^NAME +STATE +GATEWAY +NODES +STARTED\n\S+ +alive +\S+:\d+ +1 +\d+ s ago\n$/ })
    const [engine] = JSON.parse((await system.lichen('engines', '--json')).stdout) as { name: string }[]
    t.match((await system.lichen('nodes', 'show', 'node-1')).stdout, `connected to engine ${engine?.name}`)
  })

  await t.test('pause, resume: a follower is told, with what to type; asked for at the wrong time they are refused with a code', async (t) => {
    const plan = system.plan({ one: { blueprint: 'script', with: { script: 'until test -e go-one; do sleep 0.05; done' } }, two: { blueprint: 'text-file', with: { text: 'x' }, after: ['one'] } }, 'pausing')
    const following = startLichen(t, system.directory, ['apply', plan])
    await eventually(t, 'it runs', () => following.stdout().includes('one/run on node-1: runs'))
    const id = taskOf(following.stdout())
    t.match(await system.lichen('resume', id), { code: 2, stderr: /^lichen: the task is not paused.* \(TASK_NOT_PAUSED\)$/m })
    t.match(await system.lichen('retry', id), { code: 2, stderr: /TASK_NOT_ENDED/ })
    t.match(await system.lichen('pause', id, '--reason', 'lunch'), { code: 0, stdout: new RegExp(`task ${id} is paused; on with it: lichen resume ${id}`) })
    await eventually(t, 'the follower is told', () => following.stdout().includes(`lichen resume ${id}`))
    t.match(following.stdout(), /Z paused by admin: lunch\n/)
    t.match((await system.lichen('tasks', '--waiting')).stdout, new RegExp(`^${id} .* paused .*lunch`, 'm'))
    writeFileSync(join(system.workspace, 'go-one'), '')
    await eventually(t, 'the first is done', () => following.stdout().includes('one/run on node-1: changed'))
    t.match((await system.lichen('tasks', 'show', id)).stdout, new RegExp(`paused by admin: lunch[^]*lichen resume ${id}`))
    t.match(await system.lichen('tasks', 'follow', id, '--exit-on-wait'), { code: 5, stdout: new RegExp(`apply pausing waits for a person: [^]*paused by admin: lunch\\n +lichen resume ${id}\\nThen: lichen tasks follow ${id}`) })
    t.notOk(isThere('two.txt'))
    t.match(JSON.parse((await system.lichen('resume', id, '--json')).stdout), { id, state: 'running' })
    t.match(await following.ended, { code: 0, stdout: /Z resumed by admin\n[^]*apply pausing succeeded/ })
    t.match(await system.lichen('pause', id), { code: 2, stderr: /the task has ended.*TASK_ENDED/ })
    t.match(await system.lichen('tasks', '--waiting'), { code: 0, stdout: 'no task waits for a person\n' })
  })

  await t.test('approve: shows what it approves; a pipeline that must not stand still ends with 5', async (t) => {
    const plan = system.plan({ base: { blueprint: 'text-file', with: { text: 'x' } }, top: { blueprint: 'text-file', with: { text: 'y' }, approve: true, after: ['base'] } }, 'approving')
    const { code, stdout } = await system.lichen('apply', plan, '--exit-on-wait')
    const id = taskOf(stdout)
    t.equal(code, 5, stdout)
    const command = /^ +(lichen approve \S+ \S+)$/m.exec(stdout)?.[1]?.split(' ').slice(1) ?? []
    t.equal(command[1], id, stdout)
    const gate = command[2] ?? ''
    t.match(stdout, /top.* waits for approval; to type:\n/)
    t.match((await system.lichen('tasks', 'show', id)).stdout, new RegExp(`GATE +STATE[^]*${gate} +waiting`))
    t.match(JSON.parse((await system.lichen('tasks', 'show', id, '--json')).stdout), { gates: [{ id: gate, state: 'waiting' }], waitingFor: { owner: 'operator' } })
    t.match(await system.lichen('approve', id, gate.replace('approval', 'aproval')), { code: 2, stderr: new RegExp(`did you mean "${gate}"[^]*TASK_UNKNOWN_GATE`) })
    const json = objects((await system.lichen('tasks', 'follow', id, '--exit-on-wait', '--json')).stdout)
    t.match(json.find((object) => object.type === 'waiting'), { needs: [{ kind: 'approve', subject: gate, commands: [`lichen approve ${id} ${gate}`] }] })
    t.match(json.at(-1), { type: 'summary', outcome: null, needs: [{ kind: 'approve' }] })
    t.notOk(isThere('top.txt'))
    t.match(await system.lichen(...command, '--reason', 'go', '--follow'), { code: 0, stdout: /^approved: .*top[^]*top\/write on node-1: changed[^]*apply approving succeeded/ })
    t.match(await system.lichen('approve', id), { code: 2, stderr: /TASK_ENDED/ })
    t.match((await system.lichen('tasks', 'show', id)).stdout, /approved by admin: go/)
  })

  await t.test('settle: an unknown outcome is told with its three answers, and each mistake is answered', async (t) => {
    const plan = system.plan({ risky: { blueprint: 'risky', with: { script: 'echo begun; for i in $(seq 30); do sleep 0.1; done' } }, next: { blueprint: 'text-file', with: { text: 'x' }, after: ['risky'] } }, 'settling')
    const following = startLichen(t, system.directory, ['apply', plan])
    const id = await eventually(t, 'it runs', async () => following.stdout().includes('risky/run on node-1: runs') && taskOf(following.stdout()))
    await eventually(t, 'its output is there', async () => (await system.lichen('logs', id, '--raw')).stdout.includes('begun'))
    await system.rebootNode()
    await eventually(t, 'the follower is told', () => following.stdout().includes('--as run-again'), { timeoutMs: 30_000 })
    for (const answer of ['succeeded', 'failed', 'run-again']) t.match(following.stdout(), `    lichen settle ${id} risky/run@node-1 --as ${answer} --reason '…'\n`)
    t.match(following.stdout(), /risky\/run on node-1: unknown whether it happened/)
    t.match(await system.lichen('settle', id), { code: 2, stderr: /name the action:[^]*risky\/run@node-1 --as succeeded/ })
    t.match(await system.lichen('settle', id, 'risky/run@node-1', '--as', 'succeeded'), { code: 2, stderr: /--reason TEXT/ })
    t.match(await system.lichen('settle', id, 'risky/run@node-1', '--reason', 'x'), { code: 2, stderr: /--as succeeded, --as failed, or --as run-again/ })
    t.match(await system.lichen('settle', id, 'risky/run@node-1', '--as', 'fine', '--reason', 'x'), { code: 2, stderr: /Allowed choices are succeeded, failed, run-again/ })
    t.match(await system.lichen('settle', id, 'risky/rum@node-1', '--as', 'failed', '--reason', 'x'), { code: 2, stderr: /did you mean "risky\/run@node-1"[^]*TASK_UNKNOWN_ACTION/ })
    t.match(await system.lichen('settle', id, 'risky/run@node-1', '--as', 'succeeded', '--reason', 'I looked'), { code: 0, stdout: 'risky/run@node-1 is settled as succeeded\n' })
    t.match(await following.ended, { code: 0, stdout: /admin settled it as succeeded: I looked[^]*next\/write on node-1: changed[^]*apply settling succeeded/ })
    t.match(await system.lichen('settle', id, 'risky/run@node-1', '--as', 'failed', '--reason', 'x'), { code: 2, stderr: /TASK_ENDED/ })
    t.match(await system.lichen('settle', id), { code: 2, stderr: /no action whose outcome is unknown/ })
  })

  await t.test('retry: on some nodes, with new parameters; mistakes are answered before anything runs', async (t) => {
    const plan = system.plan({ base: { blueprint: 'text-file', with: { text: 'base' } }, fails: { blueprint: 'script', with: { script: 'exit 3' }, after: ['base'] } }, 'retrying')
    const { code, stdout } = await system.lichen('apply', plan)
    t.equal(code, 1)
    const id = taskOf(stdout)
    t.match(await system.lichen('retry', id, '--node', 'node-2'), { code: 2, stderr: /"node-2".*did you mean "node-1"[^]*TASK_UNKNOWN_NODE/ })
    t.match(await system.lichen('retry', id, '--set', 'fail.script=true'), { code: 2, stderr: /parameters\.fail: .*did you mean "fails"[^]*PLAN_UNKNOWN_COMPONENT/ })
    t.match(await system.lichen('retry', id, '--set', 'fails.script=5'), { code: 2, stderr: /components\[1\]\.with\.script[^]*PLAN_BAD_PARAMETER/ })
    t.match(await system.lichen('retry', id, '--set', 'base.text=other'), { code: 2, stderr: /apply the plan anew instead \(TASK_INPUTS_MOVED\)/ })
    t.match(await system.lichen('retry', id, '--set', 'nonsense'), { code: 2, stderr: /component\.parameter=value is expected/ })
    t.match(await system.lichen('retry', id, '--node', 'node-1', '--set', 'fails.script=echo healed'), { code: 0, stdout: /fails\/run on node-1: runs again \(attempt 2\)[^]*apply retrying succeeded/ })
    t.match((await system.lichen('logs', id, '--raw')).stdout, /^healed$/m)
    t.match(await system.lichen('retry', id), { code: 2, stderr: /TASK_NOTHING_TO_RETRY/ })
    t.match(await system.lichen('cancel', id), { code: 2, stderr: /TASK_ENDED/ })
  })

  await t.test('a second apply says how much it did not run', async (t) => {
    const plan = system.plan({ base: { blueprint: 'text-file', with: { text: 'base' } } }, 'again')
    t.equal((await system.lichen('apply', plan)).code, 0)
    const { code, stdout } = await system.lichen('apply', plan)
    t.equal(code, 0, stdout)
    t.match(stdout, /Z 2 unchanged: nothing about them is other than when they last succeeded\n/)
    t.match(stdout, /0 changed, \d+ unchanged \(2 without a run\), 0 failed.* Nothing had to change\./)
    t.match((await system.lichen('tasks', 'show', 'latest')).stdout, /2 actions of \d unchanged since they last succeeded, and not run/)
  })

  await t.test('each command has its help with an example', async (t) => {
    for (const command of ['pause', 'resume', 'approve', 'settle', 'retry', 'cancel', 'engines']) t.match(await system.lichen(command, '--help'), { code: 0, stdout: new RegExp(`Example[^]*  lichen ${command}`) }, command)
    t.match(await system.lichen('tasks', 'pause', '--help'), { code: 0, stdout: /Usage: lichen tasks pause/ })
  })
})
