import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { startGateway, startTestAgent } from './agent.js'
import { makeCommand } from './gateway.js'

const spoolBytes = (directory: string): number => readdirSync(join(directory, 'spool')).reduce((sum, name) => sum + statSync(join(directory, 'spool', name)).size, 0)

t.test('100 MB of output pass whole within a limit that allows them, and leave nothing behind', async (t) => {
  const gateway = await startGateway(t, { keepsLogs: false })
  const agent = await startTestAgent(t, gateway, { logLimits: { headBytes: 200e6, tailBytes: 1000 } })
  const before = process.memoryUsage().rss
  let highest = 0
  const watch = setInterval(() => (highest = Math.max(highest, process.memoryUsage().rss)), 20)
  t.teardown(() => clearInterval(watch))
  const key = gateway.order({ secrets: ['a-secret-that-is-not-in-it'], commands: [makeCommand('run', { shell: 'yes "a line of the usual length, as programs print them by the thousand" | head -c 104857600', uncheckable: true }, 100_000)], timeoutMs: 110_000 })
  await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 110_000 })
  t.ok(gateway.logSizeOf(key) >= 104857600)
  t.ok(highest - before < 200e6, `this process, which holds agent and gateway, grew by ${Math.round((highest - before) / 1e6)} MB`)
  await eventually(t, 'all that is left is the room that is always kept', () => spoolBytes(agent.directory) <= 2 * 4 * 1024 * 1024)
})

t.test('output above the limit is cut in the middle, with markers, and its end is there', async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway, { logLimits: { headBytes: 100_000, tailBytes: 10_000 } })
  const key = gateway.order({ commands: [makeCommand('run', { argv: ['seq', '1', '200000'], uncheckable: true }), makeCommand('run', { shell: 'echo the end', uncheckable: true })] })
  await eventually(t, 'the result', () => gateway.resultOf(key))
  const log = gateway.logOf(key)
  const lines = log.split('\n')
  const start = lines.indexOf('1')
  const mark = lines.findIndex((line) => line.startsWith('… the output is longer than 100000 bytes'))
  const cut = lines.findIndex((line) => / bytes cut …$/.test(line))
  t.same([lines[start + 9999], lines.indexOf('200000') > cut, cut > mark, mark > start], ['10000', true, true, true])
  const numbers = [...lines.slice(start, mark), ...lines.slice(cut + 1, lines.indexOf('200000') + 1)]
  const cutBytes = Number(/… (\d+) bytes/.exec(lines[cut]!)![1])
  const all = Array.from({ length: 200_000 }, (_, index) => `${index + 1}\n`).join('').length
  t.equal(numbers.join('\n').length + 1 + cutBytes, all, 'the marker counts every byte that is missing')
  t.match(log, /=== \[2\/2\] a run \(run\)\n(… .*\n)?the end\n/)
})

t.test('while the engine takes nothing, a talkative program waits and the spool stays within its bound', async (t) => {
  const gateway = await startGateway(t, { acknowledges: false, keepsLogs: false })
  const agent = await startTestAgent(t, gateway, { logLimits: { headBytes: 300e6, tailBytes: 1000 }, spoolLimitBytes: 24 * 1024 * 1024 })
  const key = gateway.order({ timeoutMs: 100_000, commands: [makeCommand('run', { shell: 'yes "a line of the usual length, as programs print them by the thousand" | head -c 120000000', uncheckable: true }, 100_000)] })
  await eventually(t, 'the bound', () => spoolBytes(agent.directory) > 17 * 1024 * 1024, { timeoutMs: 60_000 })
  const size = spoolBytes(agent.directory)
  t.ok(size < 24 * 1024 * 1024, `${size}`)
  t.equal(gateway.resultOf(key), undefined)
  gateway.cancel(key)
  await eventually(t, 'a program that waits can be ended', () => agent.attempts === 0)
})

t.test('binary output passes as text', async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway)
  const key = gateway.order({ commands: [makeCommand('run', { shell: 'head -c 300000 /dev/urandom; echo; printf "half \\xe2\\x82"', uncheckable: true })] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'succeeded' } })
  const bytes = Buffer.concat(gateway.logs.get(`${key.taskId} ${key.attempt} ${key.actionId}`)!)
  t.ok((await import('node:buffer')).isUtf8(bytes))
  t.match(bytes.toString(), /\nhalf \ufffd\n/)
})

t.test('secrets of the order, and secret outputs from when they appear, are nowhere in log, diff, outputs or failure', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  const path = join(agent.directory, 'conf')
  const key = gateway.order({
    secrets: ['hunter2-hunter2'],
    commands: [
      makeCommand('file', { path, content: 'password=hunter2-hunter2\n' }),
      makeCommand('run', { shell: `printf 'tok'; sleep 0.15; printf 'en-42-abc'`, uncheckable: true, outputs: { token: { from: 'stdout', secret: true } } }),
      makeCommand('run', { shell: `cat ${path}; printf hunter2-; sleep 0.25; echo hunter2; echo token-42-abc; echo -n hunter2-hunter2 | base64`, uncheckable: true, outputs: { all: { from: 'stdout' } } }),
      makeCommand('run', { shell: `cat ${path} >&2; exit 1`, uncheckable: true }),
    ],
  })
  const received = await eventually(t, 'the result', () => gateway.resultOf(key))
  t.same(received.secretOutputs, { token: 'token-42-abc' })
  const everything = JSON.stringify(received.result) + gateway.logOf(key)
  t.notMatch(everything, /hunter2-hunter/)
  t.notMatch(everything, /token-42-abc/)
  t.notMatch(everything, Buffer.from('hunter2-hunter2').toString('base64').slice(0, 16))
  t.match(received.result.failure?.message, /password=\*\*\*/)
  t.match(received.result.commands[0]?.diff, /\+password=\*\*\*/)
})

t.test('when nothing more may wait for the engine, what comes all the same is cut, its log says so, and every result is there', async (t) => {
  const gateway = await startGateway(t, { acknowledges: false })
  await startTestAgent(t, gateway, { spoolLimitBytes: 1024 * 1024 })
  const keys = Array.from({ length: 30 }, (_, index) => gateway.order({ commands: [makeCommand('note', { text: `${index} ${'x'.repeat(60_000)}` })] }))
  await eventually(t, 'all results', () => keys.every((key) => gateway.resultOf(key)))
  const logs = keys.map((key) => gateway.logOf(key))
  const whole = logs.filter((log) => log.includes('x'.repeat(60_000)))
  const cut = logs.filter((log) => /^… \d+ bytes cut: there was no room for them on the node …$/m.test(log))
  t.ok(whole.length >= 15 && cut.length >= 10, `${whole.length} whole, ${cut.length} cut`)
  t.equal(logs.filter((log) => whole.includes(log) || cut.includes(log)).length, 30, 'none is neither')
})
