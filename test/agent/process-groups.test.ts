import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { startGateway, startTestAgent } from './agent.js'
import { makeCommand } from './gateway.js'
import { listRuns } from './runs.js'

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`) && !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
const readPids = (path: string): number[] => readFileSync(path, 'utf8').trim().split('\n').map(Number)
/** A program with a child and a grandchild, all of which write their pids. */
const family = (path: string, trap = ''): string => `${trap} echo $$ >> ${path}; (echo $BASHPID >> ${path}; (echo $BASHPID >> ${path}; sleep 600) & sleep 600) & sleep 600`

t.test('a cancel ends the whole process group', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'pids')
  const key = gateway.order({ commands: [makeCommand('run', { shell: family(path), uncheckable: true }), makeCommand('note', { text: 'never' })] })
  await eventually(t, 'three processes', () => readPids(path).length === 3)
  gateway.cancel(key)
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(key))
  t.match(result, { outcome: 'cancelled', commands: [{ outcome: 'cancelled', failure: { code: 'COMMAND_CANCELLED' } }] })
  t.equal(result.commands.length, 1)
  t.same(readPids(path).filter(isAlive), [])
})

t.test('a group that ignores the polite signal is killed after the grace', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'pids')
  const key = gateway.order({ commands: [makeCommand('run', { shell: family(path, 'trap "" TERM;'), uncheckable: true })] })
  await eventually(t, 'three processes', () => readPids(path).length === 3)
  gateway.cancel(key)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 15_000 }), { result: { outcome: 'cancelled' } })
  await eventually(t, 'none is left', () => readPids(path).every((pid) => !isAlive(pid)))
})

t.test('the time limits of a command and of an attempt are kept on the node', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'pids')
  const slow = gateway.order({ commands: [makeCommand('run', { shell: family(path), uncheckable: true }, 300)] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(slow)), { result: { outcome: 'timedOut', commands: [{ outcome: 'timedOut', failure: { code: 'COMMAND_TIMED_OUT', message: /300 ms/ } }] } })
  t.same(readPids(path).filter(isAlive), [])
  const long = gateway.order({ timeoutMs: 400, commands: [makeCommand('note', { text: 'x' }), makeCommand('probe', { tcp: { host: '127.0.0.1', port: 1 }, deadlineMs: 60_000 }), makeCommand('note', { text: 'y' })] })
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(long))
  t.match(result, { outcome: 'timedOut', commands: [{ outcome: 'succeeded' }, { outcome: 'timedOut' }], failure: { message: /400 ms/ } })
  t.equal(result.commands.length, 2)
})

t.test('a daemon that a program leaves behind lives on and does not hold up the result', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'pid')
  const key = gateway.order({ commands: [makeCommand('run', { shell: `sleep 600 & echo $! > ${path}; echo started`, uncheckable: true })] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'succeeded' } })
  t.match(gateway.logOf(key), /^started$/m)
  const [pid] = readPids(path)
  t.ok(isAlive(pid!))
  process.kill(pid!, 'SIGKILL')
})

t.test('what runs goes on when the agent stops, and the next start takes it up; a check that runs is ended', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'pids')
  const running = gateway.order({ commands: [makeCommand('run', { shell: `echo before; echo $$ > ${path}; while [ ! -e ${path}.go ]; do sleep 0.02; done; echo after; exit 3`, uncheckable: true, okExitCodes: [3] }), makeCommand('note', { text: 'next' })] })
  const checking = gateway.order({ commands: [makeCommand('run', { argv: ['true'], verify: `echo $$ > ${path}.check; while [ ! -e ${path}.go ]; do sleep 0.02; done` })] })
  await eventually(t, 'both run', () => existsSync(`${path}.check`) && gateway.logOf(running).includes('before'))
  await agent.stop()
  t.ok(readPids(path).every(isAlive))
  t.notOk(readPids(`${path}.check`).some(isAlive))
  t.same(gateway.results, [])
  await startTestAgent(t, gateway, { dataDirectory: agent.directory })
  t.match(gateway.hellos.at(-1)?.running.map((key) => key.actionId).sort(), [running.actionId, checking.actionId].sort())
  t.equal(gateway.resultOf(running), undefined)
  writeFileSync(`${path}.go`, '')
  t.match(await eventually(t, 'the result', () => gateway.resultOf(running)), { result: { outcome: 'succeeded', commands: [{ exitCode: 3, settledByCheck: undefined }, {}] } })
  t.match(gateway.logOf(running), /\nbefore\n=== the agent was restarted\n=== \[1\/2\] a run \(run\), resumed\nafter\n=== \[1\/2\] succeeded, changed/)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(checking)), { result: { outcome: 'succeeded' } })
  t.same(listRuns(agent.directory), [])
})
