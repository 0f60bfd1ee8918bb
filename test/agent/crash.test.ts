/** The real program, killed and started again. */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type AttemptKey, attemptKeyText, LogStream } from '@lichen/protocol'
import { eventually } from '../eventually.js'
import { makeDirectory, startGateway } from './agent.js'
import { kill, programPath, startProgram } from './agent-program.js'
import { makeCommand, makeOrder, type TestGateway } from './gateway.js'
import { listRuns } from './runs.js'

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`) && !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
const sessionOf = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3])
}

/** The lines of each output, with lines that came in pieces put together. */
function outputLines(gateway: TestGateway, key: AttemptKey): { stdout: string[]; stderr: string[] } {
  const log = Buffer.concat(gateway.logs.get(attemptKeyText(key))!)
  const read = (stream: LogStream): string[] => {
    const seen = new Map(gateway.chunks.filter((chunk) => chunk.keyText === attemptKeyText(key) && chunk.stream === stream).map((chunk) => [chunk.position, chunk]))
    const parts = [...seen.values()].sort((a, b) => a.position - b.position).map(({ position, sizeBytes }) => log.subarray(position, position + sizeBytes))
    return Buffer.concat(parts).toString('utf8').replaceAll(' ⋯\n⋯ ', '').split('\n').slice(0, -1)
  }
  return { stdout: read(LogStream.STDOUT), stderr: read(LogStream.STDERR) }
}

/** The first few places where they differ. */
const differences = (found: string[], wanted: string[]): object[] =>
  Array.from({ length: Math.max(found.length, wanted.length) }, (_, index) => ({ index, found: found[index], wanted: wanted[index] })).filter((place) => place.found !== place.wanted).slice(0, 3)

t.test('an agent killed in the middle of commands goes on with what runs, and settles by its check what was killed with it', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const at = (name: string): string => join(directory, name)
  const child = await startProgram(t, gateway, directory)
  const hang = (name: string): string => `echo $$ > ${at(name)}.pid; while [ ! -e ${at(name)}.go ]; do sleep 0.02; done`
  const order = (name: string, shell: string, spec: object): AttemptKey => gateway.order({ commands: [makeCommand('run', { shell: `echo ran >> ${at(name)}.runs; ${shell}`, ...spec }), makeCommand('note', { text: 'after' })] })
  // It goes on, and ends well after the agent is back.
  const resumed = order('resumed', `${hang('resumed')}; echo the end; exit 3`, { uncheckable: true, okExitCodes: [3], outputs: { text: { from: 'stdout' } } })
  // It and its supervisor are killed too. Its effect is there…
  const there = order('there', `touch ${at('there.made')}; ${hang('there')}`, { creates: at('there.made') })
  // …or not: it is done again…
  const again = order('again', `if [ -e ${at('again.pid')} ]; then touch ${at('again.made')}; else ${hang('again')}; fi`, { creates: at('again.made') })
  // …or it cannot be known.
  const unknown = order('unknown', hang('unknown'), { uncheckable: true })
  const names = ['resumed', 'there', 'again', 'unknown']
  await eventually(t, 'all hang', () => names.every((name) => readFileSync(`${at(name)}.pid`, 'utf8') !== ''))
  const pids = names.map((name) => Number(readFileSync(`${at(name)}.pid`, 'utf8')))
  await kill(child)
  t.same(pids.filter(isAlive), pids, 'the agent is dead, what it started is not')
  for (const pid of pids.slice(1)) process.kill(-sessionOf(pid), 'SIGKILL')
  await startProgram(t, gateway, directory)
  await eventually(t, 'what lost its supervisor is ended', () => pids.filter(isAlive).length === 1)
  t.equal(gateway.joins.length, 1, 'it joined once')
  writeFileSync(at('resumed.go'), '')
  t.match(await eventually(t, 'a result', () => gateway.resultOf(resumed)), { result: { outcome: 'succeeded', outputs: { text: 'the end' }, commands: [{ exitCode: 3 }, {}] } })
  t.notOk(gateway.resultOf(resumed)?.result.commands[0]?.settledByCheck)
  t.match(await eventually(t, 'a result', () => gateway.resultOf(there)), { result: { outcome: 'succeeded', changed: true, commands: [{ outcome: 'succeeded', settledByCheck: true }, {}] } })
  t.match(await eventually(t, 'a result', () => gateway.resultOf(again)), { result: { outcome: 'succeeded', commands: [{ outcome: 'succeeded', exitCode: 0 }, {}] } })
  const { result } = await eventually(t, 'a result', () => gateway.resultOf(unknown))
  t.match(result, { outcome: 'unknown', failure: { code: 'COMMAND_INTERRUPTED' } })
  t.equal(result.commands.length, 1)
  t.same(names.map((name) => readFileSync(`${at(name)}.runs`, 'utf8')), ['ran\n', 'ran\n', 'ran\nran\n', 'ran\n'])
  await eventually(t, 'nothing is left', () => listRuns(directory).length === 0 && readdirSync(join(directory, 'data/runs')).length === 0)
})

t.test('of what a program prints while its agent is killed again and again, no line is lost and none is doubled', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  let child = await startProgram(t, gateway, directory)
  const stop = join(directory, 'stop')
  // In fits and starts, both outputs, lines in pieces: at any moment something is on its way.
  const shell = `i=0; while [ ! -e ${stop} ] || [ $((i % 500)) != 0 ]; do i=$((i+1)); printf '%s ' "out $i"; [ $((i % 250)) != 0 ] || sleep 0.05; echo $i; [ $((i % 7)) != 0 ] || echo "err $i" >&2; done; echo "last $i"`
  const key = gateway.order({ timeoutMs: 110_000, commands: [makeCommand('run', { shell, uncheckable: true }, 100_000)] })
  const count = (): number => gateway.logOf(key).split('\n').length
  for (let times = 0; times < 3; times++) {
    const before = count()
    await eventually(t, 'it prints', () => count() > before + 2000, { timeoutMs: 30_000 })
    await kill(child, times === 1 ? 'SIGTERM' : 'SIGKILL')
    child = await startProgram(t, gateway, directory)
  }
  writeFileSync(stop, '')
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 60_000 }), { result: { outcome: 'succeeded', commands: [{ exitCode: 0 }] } })
  const text = gateway.logOf(key)
  const last = Number(/^last (\d+)$/m.exec(text)![1])
  const lines = outputLines(gateway, key)
  t.same(differences(lines.stdout, [...Array.from({ length: last }, (_, index) => `out ${index + 1} ${index + 1}`), `last ${last}`]), [])
  t.same(differences(lines.stderr, Array.from({ length: Math.floor(last / 7) }, (_, index) => `err ${(index + 1) * 7}`)), [])
  t.equal(text.match(/^=== the agent was restarted$/gm)?.length, 3)
})

t.test('a program that ends while no agent is there keeps its exit code and the rest of its output', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const child = await startProgram(t, gateway, directory)
  const at = (name: string): string => join(directory, name)
  const body = (name: string): string => `echo begun; echo $$ > ${at(name)}; while [ ! -e ${at('go')} ]; do sleep 0.02; done`
  const well = gateway.order({ secrets: ['hush-hush'], commands: [makeCommand('run', { shell: `${body('well')}; seq 1 100000; echo hush-hush`, uncheckable: true, outputs: { all: { from: 'stdout', secret: true } } }), makeCommand('note', { text: 'after' })] })
  const badly = gateway.order({ commands: [makeCommand('run', { shell: `${body('badly')}; echo the reason >&2; exit 7`, creates: at('never') })] })
  const killed = gateway.order({ commands: [makeCommand('run', { shell: `${body('killed')}; kill -9 $$`, uncheckable: true })] })
  await eventually(t, 'all run', () => ['well', 'badly', 'killed'].every((name) => existsSync(at(name))))
  await kill(child)
  writeFileSync(at('go'), '')
  await eventually(t, 'all have ended', () => listRuns(directory).length === 0)
  await startProgram(t, gateway, directory)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(badly)), { result: { outcome: 'failed', commands: [{ exitCode: 7 }], failure: { code: 'COMMAND_EXIT_CODE', message: /the reason/ } } })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(killed)), { result: { outcome: 'failed', failure: { message: /ended by SIGKILL/ } } })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(well)), { result: { outcome: 'failed', failure: { code: 'COMMAND_OUTPUT', message: /65536 bytes/ } } }, 'an output that is too long is so though its beginning was read before')
  t.notMatch(gateway.logOf(well), /hush|^begun|^1000$/m)
})

t.test('a program that prints without end while its agent is dead has to wait, is ended at its limit, and leaves nothing behind that runs', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const child = await startProgram(t, gateway, directory)
  const key = gateway.order({ commands: [makeCommand('run', { shell: 'i=0; while :; do i=$((i+1)); echo "line $i"; [ $i != 1 ] || sleep 1; done', uncheckable: true }, 6000)] })
  await eventually(t, 'it runs', () => gateway.logOf(key).includes('line 1'))
  await kill(child)
  const files = (): number[] => readdirSync(join(directory, 'data/runs')).flatMap((run) => readdirSync(join(directory, 'data/runs', run)).filter((name) => name.startsWith('stdout.') && !name.endsWith('.dd')).map((name) => statSync(join(directory, 'data/runs', run, name)).size))
  await eventually(t, 'it has to wait', () => files().length === 2)
  await eventually(t, 'all of it is over', () => listRuns(directory).length === 0, { timeoutMs: 20_000 })
  t.ok(files().length <= 3 && files().every((size) => size <= 8 * 1024 * 1024), String(files()))
  await startProgram(t, gateway, directory)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 20_000 }), { result: { outcome: 'timedOut' } })
  const numbers = outputLines(gateway, key).stdout.map((line) => line.replace('line ', ''))
  t.same(differences(numbers.slice(0, -1), Array.from({ length: numbers.length - 1 }, (_, index) => String(index + 1))), [])
})

t.test('the limit of a command is kept while its agent is dead, and a cancel works after it is back', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const child = await startProgram(t, gateway, directory)
  const at = (name: string): string => join(directory, name)
  const family = (name: string): string => `(trap '' TERM; sleep 600) & sleep 600 & echo $$ > ${at(name)}; wait`
  const limited = gateway.order({ commands: [makeCommand('run', { shell: family('limited'), uncheckable: true }, 2000)] })
  const cancelled = gateway.order({ commands: [makeCommand('run', { shell: family('cancelled'), uncheckable: true })] })
  await eventually(t, 'both run', () => existsSync(at('limited')) && existsSync(at('cancelled')))
  await kill(child)
  const sessions = ['limited', 'cancelled'].map((name) => sessionOf(Number(readFileSync(at(name), 'utf8'))))
  const left = (session: number): number => listRuns(directory).filter((pid) => sessionOf(pid) === session).length
  await eventually(t, 'the supervisor has ended it and all it started', () => left(sessions[0]!) === 0, { timeoutMs: 20_000 })
  t.ok(left(sessions[1]!) > 0)
  await startProgram(t, gateway, directory)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(limited)), { result: { outcome: 'timedOut', failure: { code: 'COMMAND_TIMED_OUT', message: /2000 ms/ } } })
  gateway.cancel(cancelled)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(cancelled), { timeoutMs: 20_000 }), { result: { outcome: 'cancelled' } })
  await eventually(t, 'nothing is left', () => listRuns(directory).length === 0)
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
  for (const key of busy) gateway.cancel(key)
  for (const key of busy) t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'cancelled' } })
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
  await eventually(t, 'the time is over', () => Date.now() > began + 3000 && listRuns(directory).length === 0)
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
  const child = spawn(process.execPath, [await programPath(), 'run', '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  let text = ''
  child.stderr.on('data', (bytes: Buffer) => (text += bytes.toString()))
  const code = await new Promise((resolve) => child.once('close', resolve))
  t.equal(code, 78)
  t.match(text, /AGENT_CONFIG/)
  for (const field of ['gateway', 'labels', 'colour']) t.match(text, field)
})
