/** The real program, killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { makeDirectory, startGateway } from './agent.js'
import { makeCommand, makeOrder, type TestGateway } from './gateway.js'
import { bundleProgram } from './program.js'

const program = await bundleProgram()
const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`) && !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')

async function startProgram(t: Test, gateway: TestGateway, directory: string): Promise<ChildProcess> {
  const config = join(directory, 'agent.yaml')
  writeFileSync(config, `gateway: ${gateway.address}\ntoken: ${gateway.token}\nname: node-1\ndataDirectory: ${directory}/data\n`)
  const before = gateway.hellos.length
  const child = spawn(process.execPath, [program, 'run', '--config', config], { stdio: ['ignore', 'ignore', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await eventually(t, 'the program is connected', () => gateway.hellos.length > before, { timeoutMs: 60_000 })
  return child
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

t.test('an agent killed in the middle of commands settles each by its check and goes on; no process of before is left', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const at = (name: string): string => join(directory, name)
  const child = await startProgram(t, gateway, directory)
  const hang = (name: string): string => `echo $$ > ${at(name)}.pid; sleep 600`
  // The effect is there when the agent dies, but the program has not ended.
  const there = gateway.order({
    commands: [
      makeCommand('run', { shell: `echo first >> ${at('there.first')}`, uncheckable: true }),
      makeCommand('run', { shell: `touch ${at('there.made')}; ${hang('there')}`, creates: at('there.made') }),
      makeCommand('run', { shell: `echo after >> ${at('there.after')}`, uncheckable: true }),
    ],
  })
  // The effect is not there, and can be checked: it is done again.
  const again = gateway.order({ commands: [makeCommand('run', { shell: `if [ -e ${at('again.pid')} ]; then touch ${at('again.made')}; else ${hang('again')}; fi`, creates: at('again.made') })] })
  // It cannot be known.
  const unknown = gateway.order({ commands: [makeCommand('run', { shell: `echo ran >> ${at('unknown.runs')}; ${hang('unknown')}`, uncheckable: true }), makeCommand('note', { text: 'never' })] })
  await eventually(t, 'all hang', () => ['there', 'again', 'unknown'].every((name) => existsSync(`${at(name)}.pid`)))
  const pids = ['there', 'again', 'unknown'].map((name) => Number(readFileSync(`${at(name)}.pid`, 'utf8')))
  await kill(child)
  t.same(pids.filter(isAlive), pids, 'the agent is dead, what it started is not')
  await startProgram(t, gateway, directory)
  t.same(pids.filter(isAlive), [], 'the next agent has ended it')
  t.equal(gateway.joins.length, 1, 'it joined once')

  const first = await eventually(t, 'a result', () => gateway.resultOf(there))
  t.match(first.result, { outcome: 'succeeded', changed: true, commands: [{ exitCode: 0 }, { outcome: 'succeeded', settledByCheck: true }, { exitCode: 0 }] })
  t.equal(readFileSync(at('there.first'), 'utf8'), 'first\n', 'a command that had ended did not run again')
  t.equal(readFileSync(at('there.after'), 'utf8'), 'after\n')
  const second = await eventually(t, 'a result', () => gateway.resultOf(again))
  t.match(second.result, { outcome: 'succeeded', commands: [{ outcome: 'succeeded', exitCode: 0 }] })
  t.notOk(second.result.commands[0]?.settledByCheck)
  const third = await eventually(t, 'a result', () => gateway.resultOf(unknown))
  t.match(third.result, { outcome: 'unknown', failure: { code: 'COMMAND_INTERRUPTED' } })
  t.equal(third.result.commands.length, 1)
  t.equal(readFileSync(at('unknown.runs'), 'utf8'), 'ran\n')
})

t.test('lines that were printed before the agent was killed are in the log, and the log goes on behind them', async (t) => {
  const gateway = await startGateway(t, { acknowledges: false })
  const directory = makeDirectory(t)
  const pid = join(directory, 'pid')
  const child = await startProgram(t, gateway, directory)
  const key = gateway.order({ commands: [makeCommand('run', { shell: `if [ -e ${pid} ]; then echo second run; touch ${pid}.done; else seq 1 1000; echo $$ > ${pid}; sleep 600; fi`, creates: `${pid}.done` })] })
  await eventually(t, 'its lines are here', () => gateway.logOf(key).includes('\n1000\n'))
  await kill(child)
  const before = gateway.logOf(key)
  gateway.acknowledges = true
  await startProgram(t, gateway, directory)
  await eventually(t, 'the result', () => gateway.resultOf(key))
  const log = gateway.logOf(key)
  t.ok(log.startsWith(before), 'what was sent before stands, once')
  t.match(log.slice(before.length), /^=== the agent was restarted.*\n=== \[1\/1\] a run \(run\)\nsecond run\n/)
})

t.test('a result that was not acknowledged before the agent was killed is sent again', async (t) => {
  const gateway = await startGateway(t, { acknowledges: false })
  const directory = makeDirectory(t)
  const child = await startProgram(t, gateway, directory)
  const key = gateway.order({ commands: [makeCommand('run', { shell: `echo once >> ${join(directory, 'trace')}; echo s3cret-value`, uncheckable: true, outputs: { password: { from: 'stdout', secret: true } } })] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { secretOutputs: { password: 's3cret-value' }, result: { outputs: {} } })
  await kill(child)
  await startProgram(t, gateway, directory)
  await eventually(t, 'the result again', () => gateway.results.length === 2)
  t.match(gateway.results[1], { secretOutputs: { password: 's3cret-value' }, result: { outcome: 'succeeded' } })
  t.equal(readFileSync(join(directory, 'trace'), 'utf8'), 'once\n')
  t.notMatch(gateway.logOf(key), /s3cret-value/)
})

t.test('an order that waited through a long outage is not begun after its expiry', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const child = await startProgram(t, gateway, directory)
  const path = join(directory, 'must-not-exist')
  const busy = Array.from({ length: 4 }, () => gateway.order({ commands: [makeCommand('run', { argv: ['sleep', '600'], uncheckable: true })] }))
  const order = makeOrder({ expiresAt: Date.now() + 1500, commands: [makeCommand('file', { path, content: '' })] })
  gateway.order(order)
  await eventually(t, 'all are journaled', () => gateway.accepted.length === 5)
  await kill(child)
  await eventually(t, 'the order has expired', () => Date.now() > order.expiresAt)
  await startProgram(t, gateway, directory)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(order.key)), { result: { outcome: 'failed', changed: false, failure: { code: 'ORDER_EXPIRED' } } })
  t.notOk(existsSync(path))
  for (const key of busy) t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'unknown' } })
})

t.test('when the time of an attempt was over while the agent was dead, its interrupted command is looked at and not done again', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const at = (name: string): string => join(directory, name)
  const child = await startProgram(t, gateway, directory)
  const hang = (name: string): string => `echo ran >> ${at(name)}.runs; sleep 600`
  const there = gateway.order({ timeoutMs: 3000, commands: [makeCommand('run', { shell: `touch ${at('there')}; ${hang('there')}`, creates: at('there') }), makeCommand('note', { text: 'no time for it' })] })
  const missing = gateway.order({ timeoutMs: 3000, commands: [makeCommand('run', { shell: hang('missing'), creates: at('missing') })] })
  await eventually(t, 'both hang', () => ['there', 'missing'].every((name) => existsSync(`${at(name)}.runs`)))
  const began = Date.now()
  await kill(child)
  await eventually(t, 'the time is over', () => Date.now() > began + 3000)
  await startProgram(t, gateway, directory)
  const first = await eventually(t, 'the result', () => gateway.resultOf(there))
  t.match(first.result, { outcome: 'timedOut', commands: [{ outcome: 'succeeded', settledByCheck: true }] })
  t.equal(first.result.commands.length, 1)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(missing)), { result: { outcome: 'timedOut', failure: { code: 'COMMAND_TIMED_OUT', message: /its effect is not there/ } } })
  for (const name of ['there', 'missing']) t.equal(readFileSync(`${at(name)}.runs`, 'utf8'), 'ran\n')
})

t.test('the program ends with a clear message when its configuration is wrong', async (t) => {
  const directory = makeDirectory(t)
  const config = join(directory, 'agent.yaml')
  writeFileSync(config, 'gateway: nowhere\nlabels: [1]\ncolour: red\n')
  const child = spawn(process.execPath, [program, 'run', '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  let text = ''
  child.stderr.on('data', (bytes: Buffer) => (text += bytes.toString()))
  const code = await new Promise((resolve) => child.once('close', resolve))
  t.equal(code, 78)
  t.match(text, /AGENT_CONFIG/)
  for (const field of ['gateway', 'labels', 'colour']) t.match(text, field)
})
