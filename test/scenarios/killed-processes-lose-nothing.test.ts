import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import { prepareAgentProcess, type ServerProcess, startServerProcess } from './processes.js'

interface TaskBody {
  readonly id: string
  readonly state: string
  readonly outcome: string | null
  readonly reason: string
}

const makePlan = (components: readonly object[]): object => ({ apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: 'kill' }, nodes: [{ name: 'all' }], components: components.map((component) => ({ on: 'all', blueprint: 'script', ...component })) })
const submit = async (server: ServerProcess, plan: object): Promise<string> => (await server.call<TaskBody>('POST', '/tasks', { plan, kind: 'apply' })).id
const ended = (t: Test, server: ServerProcess, id: string): Promise<TaskBody> =>
  eventually(t, `${id} has ended`, async () => {
    const task = await server.call<TaskBody>('GET', `/tasks/${id}`)
    if (task.state === 'ended') return task
    throw new Error(JSON.stringify(task))
  }, { timeoutMs: 40_000 })
const makeToken = async (server: ServerProcess): Promise<string> => (await server.call<{ token: string }>('POST', '/join-tokens', { uses: 10 })).token
const ready = (t: Test, server: ServerProcess, count: number): Promise<unknown> =>
  eventually(t, `${count} nodes are ready`, async () => (await server.call<{ items: { state: string }[] }>('GET', '/nodes')).items.filter((node) => node.state === 'ready').length === count, { timeoutMs: 20_000 })
const linesOf = (file: string): string[] => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [])

t.test('a server that is killed in the middle of a task goes on where it was, and nothing runs twice', async (t) => {
  const server = await startServerProcess(t)
  const token = await makeToken(server)
  for (const name of ['n1', 'n2']) prepareAgentProcess(t, server, name, token).start()
  await ready(t, server, 2)
  const file = join(server.directory, 'runs')
  const go = join(server.directory, 'go')
  const id = await submit(server, makePlan([
    { name: 'one', with: { script: `echo one-$LICHEN_NODE >> ${file}; until test -e ${go}; do sleep 0.1; done` } },
    { name: 'two', after: ['one'], with: { script: `echo two-$LICHEN_NODE >> ${file}; sleep 1` } },
    { name: 'three', after: ['two'], with: { script: `echo three-$LICHEN_NODE >> ${file}` } },
  ]))
  await eventually(t, 'the first actions run', () => linesOf(file).length === 2)
  await server.kill()
  writeFileSync(go, '')
  await server.start()
  await eventually(t, 'the second actions run', () => linesOf(file).length === 4, { timeoutMs: 30_000 })
  await server.kill()
  await server.start()
  const task = await ended(t, server, id)
  t.match(task, { outcome: 'succeeded' })
  t.strictSame(linesOf(file).sort(), ['one-n1', 'one-n2', 'three-n1', 'three-n2', 'two-n1', 'two-n2'])
  t.notMatch(server.stderr(), /"level":50/, 'no error was logged')
})

t.test('an agent that is killed in the middle of a command finds it again, and what died with it is settled', async (t) => {
  const server = await startServerProcess(t)
  const agent = prepareAgentProcess(t, server, 'n1', await makeToken(server))
  agent.start()
  await ready(t, server, 1)

  await t.test('a command that goes on without its agent is waited for', async (t) => {
    const file = join(server.directory, 'unchecked')
    const id = await submit(server, makePlan([{ name: 'app', with: { script: `echo begun >> ${file}; sleep 2; echo ended >> ${file}` } }]))
    await eventually(t, 'it runs', () => linesOf(file).length === 1)
    await agent.kill()
    agent.start()
    t.match(await ended(t, server, id), { outcome: 'succeeded' })
    t.strictSame(linesOf(file), ['begun', 'ended'])
  })

  await t.test('one that died with it, and can be checked, is done again', async (t) => {
    const file = join(server.directory, 'checked')
    const id = await submit(server, makePlan([{ name: 'app', with: { script: `echo $$ >> ${file}; sleep 2; touch ${file}-done`, creates: `${file}-done` } }]))
    await eventually(t, 'it runs', () => linesOf(file).length === 1)
    await agent.kill()
    killAll(linesOf(file))
    agent.start()
    t.match(await ended(t, server, id), { outcome: 'succeeded' })
    t.equal(linesOf(file).length, 2)
  })
})

/** Ends the processes with their supervisors, as a crash of the node would: nobody is left to tell how they ended. */
function killAll(pids: readonly string[]): void {
  for (const pid of pids) {
    const session = Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[3])
    for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
      try {
        if (Number(readFileSync(`/proc/${name}/stat`, 'utf8').split(') ')[1]?.split(' ')[3]) === session) process.kill(Number(name), 'SIGKILL')
      } catch {
        // Gone meanwhile.
      }
    }
  }
}
