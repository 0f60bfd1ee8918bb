/** No line is lost without a word when the disk is full and the agent dies, whether there is room again afterwards or not. */
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { AttemptKey } from '@lichen/protocol'
import { eventually } from '../eventually.js'
import { makeDirectory, startGateway } from './agent.js'
import { kill, programPath, spawnProgram, startProgram } from './agent-program.js'
import { makeCommand, type TestGateway } from './gateway.js'
import { fill, mountSmall, skip } from './small-disk.js'

interface Node {
  readonly directory: string
  readonly disk: string
  readonly env: Record<string, string>
}

/** An agent's directory on a file system of its own; what programs print is kept elsewhere, as in the package. */
function makeNode(t: Test, size = '24m'): Node {
  const disk = mountSmall(t, size)
  mkdirSync(join(disk, 'node'))
  return { directory: join(disk, 'node'), disk, env: { RUNTIME_DIRECTORY: makeDirectory(t) } }
}

/** A line that was open for a while came in pieces, and the agent may have said something between them. */
const numbersOf = (gateway: TestGateway, key: AttemptKey): number[] => gateway.logOf(key).replaceAll(/^(?:===|…) .*\n/gm, '').replaceAll(' ⋯\n⋯ ', '').split('\n').filter((line) => /^line \d+ x*$/.test(line)).map((line) => Number(line.split(' ')[1]))
/** How many stand where they should from the first on. */
const countInOrder = (numbers: readonly number[]): number => {
  const wrong = numbers.findIndex((number, index) => number !== index + 1)
  return wrong < 0 ? numbers.length : wrong
}

/** Prints so many lines of a hundred bytes once the file is there, ten at a time, the last one when another file is there. */
const printer = (directory: string, lines: number): string =>
  `echo begun; while [ ! -e ${directory}/go ]; do sleep 0.02; done; x=${'x'.repeat(90)}; i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo "line $i $x"; done; while [ ! -e ${directory}/end ]; do sleep 0.02; done; echo the end`

t.test('what is printed on a full disk while the agent is killed again and again is there, every line once and in order', { skip, timeout: 120_000 }, async (t) => {
  const gateway = await startGateway(t)
  const node = makeNode(t)
  const signs = makeDirectory(t)
  let child = await startProgram(t, gateway, node.directory, node)
  const lines = 60_000
  const key = gateway.order({ timeoutMs: 100_000, commands: [makeCommand('run', { shell: printer(signs, lines), uncheckable: true }, 90_000), makeCommand('note', { text: 'after' })] })
  await eventually(t, 'it runs', () => gateway.logOf(key).includes('begun'))
  const makeRoom = fill(node.disk)
  writeFileSync(join(signs, 'go'), '')
  for (let times = 0; times < 4; times++) {
    const before = numbersOf(gateway, key).length
    await eventually(t, 'it prints', () => numbersOf(gateway, key).length > Math.min(lines - 1, before + 5000), { timeoutMs: 30_000 })
    await kill(child)
    // The second time there is room at the start, and the third time not again.
    if (times === 1) makeRoom()
    if (times === 2) fill(node.disk)
    child = await startProgram(t, gateway, node.directory, node)
  }
  writeFileSync(join(signs, 'end'), '')
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 60_000 }), { result: { outcome: 'succeeded', commands: [{ exitCode: 0 }, {}] } })
  const numbers = numbersOf(gateway, key)
  t.same([numbers.length, countInOrder(numbers)], [lines, lines])
  t.match(gateway.logOf(key), /\nthe end\n/)
  t.notMatch(gateway.logOf(key), / bytes cut/)
})

t.test('a program whose output finds no room waits, through the death of its agent too, and nothing of it is lost', { skip, timeout: 120_000 }, async (t) => {
  const gateway = await startGateway(t, { acknowledges: false })
  const node = makeNode(t)
  const signs = makeDirectory(t)
  writeFileSync(join(signs, 'end'), '')
  let child = await startProgram(t, gateway, node.directory, node)
  // More than two segments and the supervisor's files take.
  const lines = 300_000
  const key = gateway.order({ timeoutMs: 100_000, commands: [makeCommand('run', { shell: printer(signs, lines), uncheckable: true }, 90_000)] })
  await eventually(t, 'it runs', () => gateway.logOf(key).includes('begun'))
  fill(node.disk)
  writeFileSync(join(signs, 'go'), '')
  await eventually(t, 'the log says that it waits', () => gateway.logOf(key).includes('the program has to wait'), { timeoutMs: 30_000 })
  for (let times = 0; times < 2; times++) {
    await kill(child)
    child = await startProgram(t, gateway, node.directory, node)
    await eventually(t, 'it is taken up', () => gateway.hellos.at(-1)!.running.length === 1)
  }
  t.equal(gateway.resultOf(key), undefined)
  await kill(child)
  gateway.acknowledges = true
  await startProgram(t, gateway, node.directory, node)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 80_000 }), { result: { outcome: 'succeeded', commands: [{ exitCode: 0 }] } })
  const numbers = numbersOf(gateway, key)
  t.same([numbers.length, countInOrder(numbers)], [lines, lines])
})

t.test('a program that waits for room is ended at its limit; its log counts what is missing, though the agent is killed right then', { skip, timeout: 120_000 }, async (t) => {
  const gateway = await startGateway(t, { acknowledges: false })
  const node = makeNode(t)
  const signs = makeDirectory(t)
  const child = await startProgram(t, gateway, node.directory, node)
  const key = gateway.order({ commands: [makeCommand('run', { shell: printer(signs, 1_000_000), uncheckable: true }, 8000)] })
  await eventually(t, 'it runs', () => gateway.logOf(key).includes('begun'))
  fill(node.disk)
  writeFileSync(join(signs, 'go'), '')
  await eventually(t, 'it has ended', () => gateway.resultOf(key), { timeoutMs: 30_000 })
  await kill(child)
  gateway.acknowledges = true
  const results = gateway.results.length
  await startProgram(t, gateway, node.directory, node)
  t.match(gateway.resultOf(key), { result: { outcome: 'timedOut', failure: { code: 'COMMAND_TIMED_OUT' } } })
  // The result comes again, after all that is left of the log.
  await eventually(t, 'the result, once more', () => gateway.results.length > results, { timeoutMs: 30_000 })
  const cut = [...gateway.logOf(key).matchAll(/^… (\d+) bytes cut: there was no room for them on the node …$/gm)].map(([, bytes]) => Number(bytes))
  const numbers = numbersOf(gateway, key)
  t.ok(cut.length > 0 && numbers.every((number, index) => index === 0 || number > numbers[index - 1]!), `${numbers.length} lines in order, ${cut.join(' and ')} bytes cut`)
  const holes = [...gateway.logOf(key).matchAll(/^line (\d+) x*\n(?=line (\d+) )/gm)].filter(([, number, next]) => Number(next) !== Number(number) + 1)
  t.match(gateway.logOf(key), /\n(… \d+ bytes cut: there was no room for them on the node …|=== \[1\/1\] timedOut COMMAND_TIMED_OUT[^]*)\n$/, 'its end is there, or in the last marker')
  t.same(holes.map(([text]) => text.slice(0, 20)), [], 'no hole is without a marker')
})

t.test('an agent starts on a full disk, answers what it can, and goes on when there is room', { skip, timeout: 60_000 }, async (t) => {
  const gateway = await startGateway(t, { acknowledges: false })
  const node = makeNode(t, '12m')
  let child = await startProgram(t, gateway, node.directory, node)
  const before = gateway.order({ commands: [makeCommand('note', { text: 'before' })] })
  await eventually(t, 'the result', () => gateway.resultOf(before))
  await kill(child, 'SIGTERM')
  const makeRoom = fill(node.disk)
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const results = gateway.results.length
    child = await startProgram(t, gateway, node.directory, node)
    await eventually(t, 'what was not acknowledged is sent again', () => gateway.results.length > results)
    await kill(child, signal)
  }
  child = await startProgram(t, gateway, node.directory, node)
  makeRoom()
  gateway.acknowledges = true
  const after = gateway.order({ commands: [makeCommand('note', { text: 'after' })] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(after)), { result: { outcome: 'succeeded' } })
})

t.test('an agent that never ran and finds its disk full says so with a code and the path', { skip, timeout: 60_000 }, async (t) => {
  const gateway = await startGateway(t)
  const node = makeNode(t, '1m')
  // Its configuration is the last thing that there is room for.
  const first = await spawnProgram(t, gateway, node.directory, node)
  await kill(first)
  fill(node.disk)
  const child = spawn(process.execPath, [await programPath(), 'run', '--config', join(node.directory, 'agent.yaml')], { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...node.env } })
  t.teardown(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
  t.equal(await new Promise((resolve) => child.once('close', resolve)), 1)
  t.match(said, /AGENT_DISK_FULL: no room at .*node\/data/)
  t.match(readFileSync(join(node.directory, 'agent.yaml'), 'utf8'), 'gateway')
})
