import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { startGateway, startTestAgent } from './agent.js'
import { makeCommand } from './gateway.js'

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

t.test('stopping the agent ends what runs, and the next start settles it', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'pids')
  const checkable = gateway.order({ commands: [makeCommand('run', { shell: `if [ -e ${path} ]; then touch ${path}.done; else ${family(path)}; fi`, creates: `${path}.done` })] })
  const uncheckable = gateway.order({ commands: [makeCommand('run', { shell: `echo $$ > ${path}.2; sleep 600`, uncheckable: true })] })
  await eventually(t, 'both run', () => existsSync(`${path}.2`) && readPids(path).length === 3)
  await agent.stop()
  t.same([...readPids(path), ...readPids(`${path}.2`)].filter(isAlive), [])
  t.same(gateway.results, [])
  await startTestAgent(t, gateway, { dataDirectory: agent.directory })
  t.match(gateway.hellos.at(-1)?.running.map((key) => key.actionId).sort(), [checkable.actionId, uncheckable.actionId].sort())
  t.match(await eventually(t, 'the result', () => gateway.resultOf(checkable)), { result: { outcome: 'succeeded', changed: true, commands: [{ exitCode: 0 }] } })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(uncheckable)), { result: { outcome: 'unknown', failure: { code: 'COMMAND_INTERRUPTED' } } })
  t.match(gateway.logOf(checkable), /the agent was restarted/)
})
