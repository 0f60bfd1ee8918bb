/** A reboot, as far as one process can show it: the program is killed, and the agent is started with another boot id. */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { makeDirectory, startGateway, startTestAgent } from './agent.js'
import { makeCommand, type TestGateway } from './gateway.js'
import { endRuns } from './runs.js'

interface Reboot {
  readonly gateway: TestGateway
  readonly directory: string
  reboot(): Promise<void>
}

async function start(t: Test): Promise<Reboot> {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  let boots = 1
  let agent = await startTestAgent(t, gateway, { dataDirectory: directory, bootId: 'boot0001-x' })
  const reboot = async (): Promise<void> => {
    await agent.stop()
    endRuns(directory)
    agent = await startTestAgent(t, gateway, { dataDirectory: directory, bootId: `boot000${++boots}-x` })
  }
  return { gateway, directory, reboot }
}

t.test('an action goes on after a reboot that its command asked for, without asking again', async (t) => {
  const { gateway, directory, reboot } = await start(t)
  const at = (name: string): string => join(directory, name)
  const key = gateway.order({
    commands: [
      makeCommand('run', { shell: `echo asked >> ${at('asked')}`, reboots: true }),
      makeCommand('run', { shell: `echo again >> ${at('again')}; sleep 600`, reboots: true, verify: ['test', '-e', at('again')] }),
      makeCommand('run', { shell: `echo after >> ${at('after')}`, uncheckable: true }),
    ],
  })
  await eventually(t, 'it waits', () => gateway.logOf(key).includes('waiting for the node to reboot'))
  t.notOk(existsSync(at('again')))
  await reboot()
  await eventually(t, 'the second asks, and is still at it when the node goes down', () => existsSync(at('again')))
  await reboot()
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(key))
  t.match(result, { outcome: 'succeeded', commands: [{ outcome: 'succeeded', changed: true }, { outcome: 'succeeded', changed: true }, { exitCode: 0 }] })
  t.same(['asked', 'again', 'after'].map((name) => readFileSync(at(name), 'utf8')), ['asked\n', 'again\n', 'after\n'])
})

t.test('a restart of the agent is no reboot: it waits on, until the time of the command is over', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const agent = await startTestAgent(t, gateway, { dataDirectory: directory })
  const key = gateway.order({ commands: [makeCommand('run', { shell: `echo asked >> ${join(directory, 'asked')}`, reboots: true }, 4000)] })
  await eventually(t, 'it waits', () => gateway.logOf(key).includes('waiting for the node to reboot'))
  await agent.stop()
  await startTestAgent(t, gateway, { dataDirectory: directory })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'timedOut', failure: { code: 'COMMAND_TIMED_OUT', message: /4000 ms/ } } })
  t.equal(readFileSync(join(directory, 'asked'), 'utf8'), 'asked\n')
})

t.test('what is not there after the reboot is a failure, and the node is not rebooted once more', async (t) => {
  const { gateway, directory, reboot } = await start(t)
  const key = gateway.order({ commands: [makeCommand('run', { shell: `echo asked >> ${join(directory, 'asked')}`, reboots: true, creates: join(directory, 'never') })] })
  await eventually(t, 'it waits', () => gateway.logOf(key).includes('waiting for the node to reboot'))
  await reboot()
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'failed', failure: { code: 'COMMAND_NOT_VERIFIED', message: /has rebooted/ } } })
  t.equal(readFileSync(join(directory, 'asked'), 'utf8'), 'asked\n')
})

t.test('a reboot that nobody asked for interrupts what ran: it is settled by its check, or unknown', async (t) => {
  const { gateway, directory, reboot } = await start(t)
  const at = (name: string): string => join(directory, name)
  const order = (name: string, spec: object) => gateway.order({ commands: [makeCommand('run', { shell: `echo ran >> ${at(name)}; [ -e ${at('up')} ] || sleep 600; touch ${at(name)}.done`, ...spec })] })
  const checked = order('checked', { creates: at('checked.done') })
  const unchecked = order('unchecked', { uncheckable: true })
  const failed = gateway.order({ commands: [makeCommand('run', { shell: 'exit 5', reboots: true })] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(failed)), { result: { outcome: 'failed', failure: { code: 'COMMAND_EXIT_CODE' } } })
  await eventually(t, 'both run', () => existsSync(at('checked')) && existsSync(at('unchecked')))
  ;(await import('node:fs')).writeFileSync(at('up'), '')
  await reboot()
  t.match(await eventually(t, 'the result', () => gateway.resultOf(checked)), { result: { outcome: 'succeeded', commands: [{ exitCode: 0 }] } })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(unchecked)), { result: { outcome: 'unknown', failure: { code: 'COMMAND_INTERRUPTED' } } })
  t.equal(readFileSync(at('unchecked'), 'utf8'), 'ran\n')
  t.match(gateway.logOf(unchecked), '\n=== the agent was restarted\n… perhaps some bytes cut: the node was restarted while the command ran …\n')
})

t.test('what cannot be checked is not run again when the agent dies after a reboot too, before it has recorded that the outcome is unknown', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const after = makeDirectory(t)
  const trace = join(directory, 'trace')
  let agent = await startTestAgent(t, gateway, { dataDirectory: directory, bootId: 'boot0001-x' })
  const key = gateway.order({ commands: [makeCommand('run', { shell: `echo ran >> ${trace}; sleep 600`, uncheckable: true })] })
  await eventually(t, 'it runs', () => existsSync(trace))
  await agent.stop()
  endRuns(directory)
  // What a SIGKILL at this moment leaves on the disk.
  const onWrite = (name: string): void => void (name === 'journal.result:before' && cpSync(directory, after, { recursive: true }))
  agent = await startTestAgent(t, gateway, { dataDirectory: directory, bootId: 'boot0002-x', onWrite })
  await eventually(t, 'the outcome is about to be recorded', () => existsSync(join(after, 'journal')))
  await agent.stop()
  rmSync(join(after, 'agent.lock'))
  gateway.results.length = 0
  await startTestAgent(t, gateway, { dataDirectory: after, bootId: 'boot0002-x' })
  const { result } = await eventually(t, 'the next agent reports', () => gateway.resultOf(key))
  t.match(result, { outcome: 'unknown', failure: { code: 'COMMAND_INTERRUPTED' } })
  t.equal(readFileSync(trace, 'utf8'), 'ran\n')
})

t.test('an order that expired while the node was down may have begun before, as far as it can be checked: it is looked at, and not run', async (t) => {
  const { gateway, directory, reboot } = await start(t)
  const at = (name: string): string => join(directory, name)
  const busy = Array.from({ length: 4 }, () => gateway.order({ commands: [makeCommand('run', { argv: ['sleep', '600'], uncheckable: true })] }))
  const expiresAt = Date.now() + 1_500
  const there = gateway.order({ expiresAt, commands: [makeCommand('file', { path: at('there'), content: 'x' })] })
  const missing = gateway.order({ expiresAt, commands: [makeCommand('file', { path: at('missing'), content: 'x' })] })
  const uncheckable = gateway.order({ expiresAt, commands: [makeCommand('run', { shell: `echo ran >> ${at('uncheckable')}`, uncheckable: true })] })
  await eventually(t, 'all are journaled', () => gateway.accepted.length === 7)
  // As if it had begun, and the power cut had taken the record of it.
  writeFileSync(at('there'), 'x')
  await eventually(t, 'the orders have expired', () => Date.now() > expiresAt)
  await reboot()
  t.match(await eventually(t, 'the result', () => gateway.resultOf(there)), { result: { outcome: 'succeeded', commands: [{ outcome: 'succeeded', settledByCheck: true }] } })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(missing)), { result: { outcome: 'timedOut', failure: { code: 'COMMAND_TIMED_OUT' } } })
  t.notOk(existsSync(at('missing')), 'its time was over')
  t.match(await eventually(t, 'the result', () => gateway.resultOf(uncheckable)), { result: { outcome: 'failed', failure: { code: 'ORDER_EXPIRED' } } }, 'that one is not begun before its beginning is on the disk')
  t.notOk(existsSync(at('uncheckable')))
  for (const key of busy) t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'unknown' } })
})
