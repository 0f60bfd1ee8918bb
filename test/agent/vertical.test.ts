import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { startGateway, startTestAgent } from './agent.js'
import { makeCommand } from './gateway.js'

t.test('an order is accepted, run, logged and answered', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway, { labels: { role: 'db' } })
  const path = join(agent.directory, 'made.txt')
  t.same(gateway.joins[0]?.labels, { role: 'db' })
  t.match(JSON.parse(gateway.hellos[0]!.facts), { address: '127.0.0.1', os: { id: /./ }, packageManager: 'apt' })
  const key = gateway.order({
    commands: [
      makeCommand('note', { text: 'hello from the plan' }),
      makeCommand('file', { path, content: 'one\ntwo\n', mode: '0640' }),
      makeCommand('run', { argv: ['sh', '-c', 'echo out; echo err >&2; echo v=7'], uncheckable: true, outputs: { all: { from: 'stdout' } } }),
    ],
  })
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(key))
  t.match(result, { outcome: 'succeeded', changed: true, commands: [{ outcome: 'succeeded', changed: false }, { outcome: 'succeeded', changed: true, diff: /\+two/ }, { outcome: 'succeeded', exitCode: 0 }], outputs: { all: 'out\nv=7' } })
  t.equal(readFileSync(path, 'utf8'), 'one\ntwo\n')
  t.equal(statSync(path).mode & 0o777, 0o640)
  t.match(gateway.accepted, [key])
  const log = gateway.logOf(key)
  t.match(log, /=== \[1\/3\] a note \(note\)\nhello from the plan\n=== \[1\/3\] succeeded, unchanged\n/)
  t.match(log, /=== \[3\/3\] a run \(run\)\n/)
  for (const line of ['out', 'err', 'v=7']) t.match(log, new RegExp(`^${line}$`, 'm'))
})

t.test('check mode says what would change and changes nothing', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'made.txt')
  const key = gateway.order({ mode: 'check', commands: [makeCommand('file', { path, content: 'x\n' }), makeCommand('run', { argv: ['true'], uncheckable: true })] })
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(key))
  t.match(result, { outcome: 'succeeded', changed: true, commands: [{ changed: true, diff: /\+x/ }, { changed: true, diff: 'run `true`' }] })
  t.equal(statSync(path, { throwIfNoEntry: false }), undefined)
})

t.test('the first command that does not succeed ends the attempt, with the last lines it printed', async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway)
  const key = gateway.order({ commands: [makeCommand('run', { argv: ['sh', '-c', 'echo the reason >&2; exit 3'], uncheckable: true }), makeCommand('note', { text: 'never' })] })
  const { result } = await eventually(t, 'the result', () => gateway.resultOf(key))
  t.match(result, { outcome: 'failed', commands: [{ exitCode: 3 }], failure: { code: 'COMMAND_EXIT_CODE', message: /the reason/, command: 'a run' } })
  t.equal(result.commands.length, 1)
  t.notMatch(gateway.logOf(key), /never/)
})
