import { appendFileSync, closeSync, openSync, readFileSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { attemptKeyText, buildOrder, encodeOrder, encodeResult } from '@lichen/protocol'
import { Journal } from '../../packages/agent/dist/journal/journal.js'
import { countTornBytes, RecordFile, readRecords } from '../../packages/agent/dist/journal/record-file.js'
import { nodeDisk } from '../../packages/agent/dist/disk/node-disk.js'
import { clock, makeDirectory, quiet } from './agent.js'
import { makeCommand, makeOrder } from './gateway.js'
import { fill, mountSmall, skip } from './small-disk.js'

const result = (text: string): string => encodeResult({ outcome: 'succeeded', changed: false, commands: [], outputs: { text }, startedAt: 1, endedAt: 2 })

function makeAcceptable(action: string, expiresAt = 1000, epoch = 1) {
  const parts = makeOrder({ key: { taskId: 't-1', actionId: action, attempt: 1 }, epoch, expiresAt, commands: [makeCommand('note', { text: 'x' })] })
  const order = buildOrder(parts)
  return { order: { ...order, key: parts.key }, bytes: encodeOrder(order), keyText: attemptKeyText(parts.key) }
}

function writeAt(path: string, bytes: Buffer, position: number): void {
  const fd = openSync(path, 'r+')
  writeSync(fd, bytes, 0, bytes.length, position)
  closeSync(fd)
}

const openJournal = (directory: string, now = (): number => 500, log = quiet) => Journal.open({ directory, disk: nodeDisk, clock: { ...clock, now }, log })

t.test('what was recorded is there after reopening', async (t) => {
  const directory = makeDirectory(t)
  const journal = await openJournal(directory)
  const [a, b, c] = ['a', 'b', 'c'].map((name) => makeAcceptable(name)) as [ReturnType<typeof makeAcceptable>, ReturnType<typeof makeAcceptable>, ReturnType<typeof makeAcceptable>]
  for (const { order, bytes } of [a, b, c]) journal.accept(order, bytes, 'boot-1')
  const running = journal.find(a.keyText)!
  journal.begin(running, 0, 'boot')
  journal.recordProcess(running, { pid: 42, startTime: '7', bootId: 'boot' })
  journal.endCommand(running, { result: { name: 'x', kind: 'run', outcome: 'succeeded', changed: true, durationMs: 1 }, outputs: { o: '1' }, secretOutputs: { s: '2' } })
  journal.begin(running, 1, 'boot')
  journal.end(journal.find(b.keyText)!, result('b'), { key: 'value-b' })
  journal.end(journal.find(c.keyText)!, result('c'), { key: 'value-c' })
  journal.acknowledge(journal.find(c.keyText)!)
  await journal.close()
  for (let times = 0; times < 2; times++) {
    const again = await openJournal(directory)
    t.same(again.unfinished().map((attempt) => attempt.keyText), [a.keyText])
    t.match(again.find(a.keyText), { begunCommand: 1, process: undefined, commands: [{ outputs: { o: '1' }, secretOutputs: { s: '2' } }], order: a.bytes })
    t.same(again.unacknowledged().map((attempt) => attempt.keyText), [b.keyText])
    t.match(again.readResult(again.find(b.keyText)!), { result: result('b'), secretOutputs: { key: 'value-b' } })
    t.match(again.readResult(again.find(c.keyText)!), { result: result('c'), secretOutputs: {} }, 'acknowledged: kept for duplicates, without secrets')
    t.equal(again.highestEpoch('t-1'), 1)
    await again.close()
  }
  t.equal(statSync(join(directory, 'journal.log')).mode & 0o777, 0o600)
  const text = readFileSync(join(directory, 'journal.log'), 'latin1')
  t.match(text, 'value-b')
  t.notMatch(text, 'value-c')
})

t.test('on a full disk it opens as it is, whole or torn, and is written on', { skip }, async (t) => {
  const directory = mountSmall(t, '2m')
  const journal = await openJournal(directory)
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => makeAcceptable(name)) as [ReturnType<typeof makeAcceptable>, ReturnType<typeof makeAcceptable>, ReturnType<typeof makeAcceptable>, ReturnType<typeof makeAcceptable>]
  for (const { order, bytes } of [a, b]) journal.accept(order, bytes, 'boot-1')
  journal.end(journal.find(b.keyText)!, result('b'), { key: 'value-b' })
  journal.acknowledge(journal.find(b.keyText)!)
  journal.accept(c.order, c.bytes, 'boot-1')
  await journal.close()
  const path = join(directory, 'journal.log')
  const cut = readFileSync(path).lastIndexOf('note')
  fill(directory)
  // The intent of c is torn, as by a power cut; what follows it on the disk is of no use.
  writeAt(path, Buffer.from('torn'), cut)
  const warnings: string[] = []
  const again = await openJournal(directory, undefined, { ...quiet, warn: (_fields: object, message: string) => void warnings.push(message) } as typeof quiet)
  t.match(warnings, [/torn record/, /no room to compact/])
  t.same(again.unfinished().map((attempt) => attempt.keyText), [a.keyText])
  t.match(again.readResult(again.find(b.keyText)!), { result: result('b') })
  again.end(again.find(a.keyText)!, result('a'), {})
  again.accept(d.order, d.bytes, 'boot-1')
  await again.close()
  const last = await openJournal(directory)
  t.same(last.unfinished().map((attempt) => attempt.keyText), [d.keyText])
  t.match(last.readResult(last.find(a.keyText)!), { result: result('a') })
  t.equal(last.find(c.keyText), undefined)
  await last.close()
})

t.test('an acknowledged attempt is forgotten when its order has expired, its epoch is not', async (t) => {
  const directory = makeDirectory(t)
  const journal = await openJournal(directory)
  const { order, bytes, keyText } = makeAcceptable('a', 1000, 9)
  journal.end(journal.accept(order, bytes, 'boot-1'), result('a'), {})
  journal.acknowledge(journal.find(keyText)!)
  await journal.close()
  const later = await openJournal(directory, () => 1001)
  t.equal(later.find(keyText), undefined)
  t.equal(later.highestEpoch('t-1'), 9)
  await later.close()
})

t.test('a journal that ends in a torn record opens with every whole record before it, wherever it was torn', async (t) => {
  const directory = makeDirectory(t)
  const path = join(directory, 'torn.log')
  const file = RecordFile.create(nodeDisk, path, clock)
  const ends: number[] = []
  for (const text of ['first', 'second record', 'the third']) {
    file.append(1, Buffer.from(text))
    ends.push(file.sizeBytes)
  }
  await file.close()
  const whole = readFileSync(path)
  for (let cut = ends[1]!; cut < ends[2]!; cut++) {
    // Torn as a power cut tears: the rest of the space is zeros, or is not there at all.
    for (const rest of [Buffer.alloc(500), Buffer.alloc(0)]) {
      writeFileSync(path, Buffer.concat([whole.subarray(0, cut), rest]))
      const seen: string[] = []
      const end = readRecords(nodeDisk, path, (_type, payload) => seen.push(payload.toString()) > 0)
      t.equal(end, ends[1])
      t.same(seen, ['first', 'second record'], `cut at ${cut}`)
      t.ok(countTornBytes(nodeDisk, path, end) <= cut - ends[1]!)
    }
  }
  // A flipped bit in the last record: its CRC says so.
  const flipped = Buffer.from(whole)
  flipped[ends[2]! - 1]! ^= 1
  writeFileSync(path, flipped)
  const seen: string[] = []
  t.ok(countTornBytes(nodeDisk, path, readRecords(nodeDisk, path, (_type, payload) => seen.push(payload.toString()) > 0)) > 0)
  t.same(seen, ['first', 'second record'])
})

t.test('a torn journal is said in the log, and what comes after does not bring the torn bytes back', async (t) => {
  const directory = makeDirectory(t)
  const journal = await openJournal(directory)
  const a = makeAcceptable('a')
  const b = makeAcceptable('b')
  journal.accept(a.order, a.bytes, 'boot-1')
  journal.accept(b.order, b.bytes, 'boot-1')
  await journal.close()
  const path = join(directory, 'journal.log')
  const text = readFileSync(path)
  const end = text.length - [...text].reverse().findIndex((byte) => byte !== 0)
  truncateSync(path, end - 3)
  appendFileSync(path, Buffer.alloc(100))
  const warnings: string[] = []
  const again = await openJournal(directory, undefined, { ...quiet, warn: (_fields: object, message: string) => void warnings.push(message) } as typeof quiet)
  t.match(warnings, [/torn record/])
  t.ok(again.find(a.keyText))
  t.equal(again.find(b.keyText), undefined)
  const c = makeAcceptable('c')
  again.accept(c.order, c.bytes, 'boot-1')
  await again.close()
  const last = await openJournal(directory)
  t.same(last.unfinished().map((attempt) => attempt.keyText), [a.keyText, c.keyText])
  await last.close()
})

t.test('a large journal is compacted while it is in use and keeps what is not forgotten', async (t) => {
  const directory = makeDirectory(t)
  let now = 0
  const journal = await openJournal(directory, () => now)
  const kept = makeAcceptable('kept', 1e9)
  journal.accept(kept.order, kept.bytes, 'boot-1')
  const filler = 'x'.repeat(20_000)
  let largest = 0
  for (let index = 0; index < 1000; index++) {
    now = index * 10
    const { order, bytes, keyText } = makeAcceptable(`a-${index}`, now + 50)
    journal.end(journal.accept(order, bytes, 'boot-1'), result(filler), {})
    await journal.flush()
    journal.acknowledge(journal.find(keyText)!)
    largest = Math.max(largest, statSync(join(directory, 'journal.log')).size)
  }
  t.ok(largest < 8 * 1024 * 1024, `20 MB went through ${largest} bytes`)
  t.ok(journal.find(kept.keyText))
  t.equal(journal.find(makeAcceptable('a-1').keyText), undefined)
  const recent = journal.find(makeAcceptable('a-999').keyText)!
  t.equal(journal.readResult(recent)?.result, result(filler))
  await journal.close()
  const again = await openJournal(directory, () => now)
  t.ok(again.find(kept.keyText))
  t.equal(again.readResult(again.find(makeAcceptable('a-999').keyText)!)?.result, result(filler))
  await again.close()
})

t.test('many flushes share few', async (t: Test) => {
  const journal = await openJournal(makeDirectory(t))
  const order: number[] = []
  await Promise.all(
    Array.from({ length: 200 }, async (_, index) => {
      const { order: parts, bytes } = makeAcceptable(`a-${index}`)
      journal.accept(parts, bytes, 'boot-1')
      await journal.flush()
      order.push(index)
    }),
  )
  t.same(order, Array.from({ length: 200 }, (_, index) => index), 'answered in order')
  await journal.close()
})
