import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../eventually.js'
import { makeDirectory, startGateway, startTestAgent } from './agent.js'
import { makeCommand } from './gateway.js'
import { fill, mountSmall, skip } from './small-disk.js'

t.test('a full disk is an outcome of the command, and the agent goes on', { skip }, async (t) => {
  const gateway = await startGateway(t)
  await startTestAgent(t, gateway)
  const disk = mountSmall(t, '1m')
  const makeRoom = fill(disk)
  const commands = {
    file: makeCommand('file', { path: join(disk, 'x'), content: 'x'.repeat(100_000) }),
    run: makeCommand('run', { shell: `head -c 100000 /dev/zero > ${disk}/y`, uncheckable: true }),
  }
  for (const command of Object.values(commands)) {
    const key = gateway.order({ commands: [command] })
    const { result } = await eventually(t, 'the result', () => gateway.resultOf(key))
    t.match(result, { outcome: 'failed', failure: { code: 'COMMAND_DISK_FULL' } }, command.kind)
  }
  makeRoom()
  const key = gateway.order({ commands: Object.values(commands) })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key)), { result: { outcome: 'succeeded' } })
})

t.test('on a full disk of its own the agent finishes what it accepted, refuses what it could not journal, and recovers', { skip }, async (t) => {
  const gateway = await startGateway(t, { acknowledges: false })
  const disk = mountSmall(t, '6m')
  await startTestAgent(t, gateway, { dataDirectory: disk, runDirectory: makeDirectory(t), spoolLimitBytes: 64 * 1024 * 1024 })
  const running = gateway.order({ commands: [makeCommand('run', { shell: 'echo early; while [ ! -e go ]; do sleep 0.05; done; seq 1 300000; echo late', cwd: disk, uncheckable: true })] })
  await eventually(t, 'it runs', () => gateway.logOf(running).includes('early'))
  const makeRoom = fill(disk)
  // As many orders as there is room for in what the journal keeps free; then no more.
  for (let count = 0; gateway.refused.length === 0 && count < 400; count++) {
    const before = gateway.results.length
    gateway.order({ commands: [makeCommand('note', { text: 'x'.repeat(10_000) })] })
    await eventually(t, 'an answer', () => gateway.results.length > before || gateway.refused.length > 0)
  }
  t.match(gateway.refused, [{ code: 'ORDER_NOT_JOURNALED', message: /no room/ }])
  // What runs goes on: its result has room, and its output, until memory for it is used up.
  makeRoom()
  writeFileSync(join(disk, 'go'), '')
  const makeRoomAgain = fill(disk)
  t.match(await eventually(t, 'the result', () => gateway.resultOf(running), { timeoutMs: 20_000 }), { result: { outcome: 'succeeded' } })
  t.match(gateway.logOf(running), /\n1000\n[^]*\nlate\n/)
  makeRoomAgain()
  const later = gateway.order({ commands: [makeCommand('note', { text: 'there is room again' })] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(later)), { result: { outcome: 'succeeded' } })
})

t.test('when there is no room for what a program prints, it waits until there is, and the log says so', { skip }, async (t) => {
  const gateway = await startGateway(t)
  const disk = mountSmall(t, '4m')
  const go = join(makeDirectory(t), 'go')
  await startTestAgent(t, gateway, { runDirectory: disk })
  const key = gateway.order({ commands: [makeCommand('run', { shell: `echo early; while [ ! -e ${go} ]; do sleep 0.05; done; seq 1 300000; echo late >&2`, uncheckable: true })] })
  await eventually(t, 'it runs', () => gateway.logOf(key).includes('early'))
  const makeRoom = fill(disk)
  writeFileSync(go, '')
  await eventually(t, 'the log says so', () => gateway.logOf(key).includes('\n… some bytes cut: the disk of the node is full, and the program has to wait'), { timeoutMs: 20_000 })
  t.equal(gateway.resultOf(key), undefined)
  makeRoom()
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 20_000 }), { result: { outcome: 'succeeded', commands: [{ exitCode: 0 }] } })
  const numbers = gateway.logOf(key).split('\n').filter((line) => /^\d+$/.test(line))
  t.equal(numbers.at(-1), '300000')
  t.ok(numbers.length > 300_000 - 8192, `${numbers.length} lines: no more is lost than what was read at once`)
  t.match(gateway.logOf(key), '\nlate\n')
  const makeRoomAgain = fill(disk)
  // Nothing can be started either.
  const none = gateway.order({ commands: [makeCommand('run', { argv: ['true'], uncheckable: true })] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(none)), { result: { outcome: 'failed', failure: { code: 'COMMAND_DISK_FULL' } } })
  makeRoomAgain()
  const later = gateway.order({ commands: [makeCommand('run', { argv: ['true'], uncheckable: true })] })
  t.match(await eventually(t, 'the result', () => gateway.resultOf(later)), { result: { outcome: 'succeeded' } })
})

t.test('a program that waits for room on a full disk is ended at its limit, and what it had printed is counted', { skip }, async (t) => {
  const gateway = await startGateway(t)
  const disk = mountSmall(t, '1m')
  const go = join(makeDirectory(t), 'go')
  await startTestAgent(t, gateway, { runDirectory: disk })
  const key = gateway.order({ commands: [makeCommand('run', { shell: `echo early; while [ ! -e ${go} ]; do sleep 0.05; done; seq 1 300000`, uncheckable: true }, 6000)] })
  await eventually(t, 'it runs', () => gateway.logOf(key).includes('early'))
  fill(disk)
  writeFileSync(go, '')
  t.match(await eventually(t, 'the result', () => gateway.resultOf(key), { timeoutMs: 20_000 }), { result: { outcome: 'timedOut', failure: { code: 'COMMAND_TIMED_OUT' } } })
  t.match(gateway.logOf(key), /\n… some bytes cut: the disk of the node is full, .*\n[^]*\n… \d+ bytes cut: the disk of the node is full …\n/)
})
