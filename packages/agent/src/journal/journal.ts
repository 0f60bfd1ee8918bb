/**
 * The journal: what this node was ordered to do and what came of it. Owns `journal/journal.log` in the data directory and the attempts that
 * are not forgotten yet. Decides nothing: the runner says what happened, the settler reads it after a restart.
 *
 * 1. An attempt with an effect runs only after its intent is on the disk; a result is reported only after it is on the disk.
 * 2. Records of one attempt stand in the order intent, begun/process/command…, result, acknowledged.
 * 3. An attempt is forgotten when its result is acknowledged and its order has expired: until then a duplicate gets the stored answer, afterwards
 *    it is refused as expired. So no order can run twice.
 * 4. The highest epoch of a task never falls while the journal knows the task (30 days after its last order).
 * 5. Compaction writes a new file beside the old one and renames it; a crash in between leaves the old one whole. When the disk has no room for it, the old one is written on.
 */
import { join } from 'node:path'
import type { Clock, CommandResult } from '@lichen/core'
import { type AttemptKey, attemptKeyText, decodeOrder, type Order } from '@lichen/protocol'
import { type Disk, isNoSpace } from '../disk/disk.js'
import type { OnWrite } from '../durable-write.js'
import type { Log } from '../log.js'
import { countTornBytes, RecordFile, type RecordPlace, readRecords } from './record-file.js'
import { decodeRecord, decodeStoredResult, encodeRecord, type JournalRecord, type ProcessMark, type StoredResult } from './records.js'

/** One attempt as the journal knows it. Read-only outside of this file. */
export interface JournaledAttempt {
  readonly key: AttemptKey
  readonly keyText: string
  epoch: number
  expiresAt: number
  /** Encoded Order; dropped with the result. Absent for an attempt that was cancelled before its order came. */
  order: Buffer | undefined
  acceptedAt: number
  /** In which boot of the node; empty for one that was cancelled before its order came. */
  acceptedBoot: string
  /** When its first command began; undefined before. */
  begunAt: number | undefined
  /** Index of the last command that began. */
  begunCommand: number
  /** When that command began, and in which boot of the node; the boot is undefined in records of older agents. */
  commandBegunAt: number
  begunBoot: string | undefined
  process: ProcessMark | undefined
  commands: CommandEnd[]
  /** In memory until acknowledged, afterwards on disk only. */
  result: StoredResult | undefined
  place: RecordPlace | undefined
  isAcknowledged: boolean
}

/** A command that has ended, with the outputs it gave. */
export interface CommandEnd {
  readonly result: CommandResult
  readonly outputs: Readonly<Record<string, string>>
  readonly secretOutputs: Readonly<Record<string, string>>
}

/** Tasks are forgotten this long after their last order. */
const taskMemoryMs = 30 * 24 * 3_600_000
/** Compaction is not worth its fsyncs below this; doubled, secrets of ended attempts stay on the disk longer. */
const compactAboveBytes = 4 * 1024 * 1024

export interface JournalOptions {
  readonly directory: string
  readonly disk: Disk
  readonly clock: Clock
  /** See durable-write.ts. */
  readonly onWrite?: OnWrite | undefined
  readonly log: Log
}

/** See the file header. */
export class Journal {
  readonly #options: JournalOptions
  readonly #attempts = new Map<string, JournaledAttempt>()
  readonly #epochs = new Map<string, { epoch: number; at: number }>()
  /** From `open` on. */
  #file!: RecordFile
  /** Size right after the last compaction: the next comes when the file has doubled. */
  #compactedBytes = 0

  private constructor(options: JournalOptions) {
    this.#options = options
  }

  /** The journal of this directory (made with mode 0700 when missing), read, and compacted into a fresh file. Throws the error of the file system when there is none and no room for one. */
  static open(options: JournalOptions): Promise<Journal> {
    const { disk, directory, clock, log } = options
    disk.makeDirectory(directory)
    const path = join(directory, 'journal.log')
    const journal = new Journal(options)
    const endBytes = disk.exists(path) ? journal.#load(path) : undefined
    try {
      journal.#compact(undefined)
    } catch (error) {
      if (endBytes === undefined || !isNoSpace(error)) throw error
      log.warn({ path, error: String(error) }, 'the disk has no room to compact the journal; it is written on as it is')
      journal.#file = RecordFile.resume(disk, path, clock, endBytes)
    }
    for (const attempt of journal.#attempts.values()) if (attempt.isAcknowledged) attempt.result = undefined
    return Promise.resolve(journal)
  }

  /** The attempt of this key text, if it is not forgotten. */
  find(keyText: string): JournaledAttempt | undefined {
    return this.#attempts.get(keyText)
  }

  /** Attempts without a result, oldest first. */
  unfinished(): JournaledAttempt[] {
    return [...this.#attempts.values()].filter((attempt) => !attempt.place)
  }

  /** Results that the engine has not acknowledged, oldest first. */
  unacknowledged(): JournaledAttempt[] {
    return [...this.#attempts.values()].filter((attempt) => attempt.place && !attempt.isAcknowledged)
  }

  /** The highest epoch seen for the task; 0 when the task is new. */
  highestEpoch(taskId: string): number {
    return this.#epochs.get(taskId)?.epoch ?? 0
  }

  /** True while an order of this size can be journaled and its result will find room too. */
  hasRoom(sizeBytes: number): boolean {
    return this.#file.hasRoom(sizeBytes)
  }

  /** The journaled intent. Durable after the next `flush`. */
  accept(order: Order & { key: AttemptKey }, orderBytes: Buffer, bootId: string): JournaledAttempt {
    const at = this.#options.clock.now()
    this.#append({ type: 'intent', at, bootId, order: orderBytes })
    return this.#addIntent(order, orderBytes, at, bootId)
  }

  /** A known attempt was ordered again by an engine with this epoch. */
  raiseEpoch(attempt: JournaledAttempt, epoch: number): void {
    if (epoch <= attempt.epoch) return
    attempt.epoch = epoch
    this.recordEpoch(attempt.key.taskId, epoch)
  }

  /** The task was seen with this epoch. */
  recordEpoch(taskId: string, epoch: number): void {
    if (epoch <= this.highestEpoch(taskId)) return
    const at = this.#options.clock.now()
    this.#appendIfRoom({ type: 'epoch', task: taskId, epoch, at })
    this.#epochs.set(taskId, { epoch, at })
  }

  /** The command is about to begin. */
  begin(attempt: JournaledAttempt, command: number, bootId: string): void {
    const at = this.#options.clock.now()
    this.#append({ type: 'begun', key: attempt.keyText, command, at, bootId })
    attempt.begunAt ??= at
    attempt.begunCommand = command
    attempt.commandBegunAt = at
    attempt.begunBoot = bootId
    attempt.process = undefined
  }

  /** The running command started this process. */
  recordProcess(attempt: JournaledAttempt, process: ProcessMark): void {
    attempt.process = process
    this.#append({ type: 'process', key: attempt.keyText, process })
  }

  /** The command ended. */
  endCommand(attempt: JournaledAttempt, end: CommandEnd): void {
    this.#append({ type: 'command', key: attempt.keyText, ...end })
    attempt.commands.push(end)
  }

  /** The attempt ended. Durable, and so to be reported, after the next `flush`. */
  end(attempt: JournaledAttempt, result: string, secretOutputs: Readonly<Record<string, string>>): void {
    const stored: StoredResult = { key: attempt.key, epoch: attempt.epoch, expiresAt: attempt.expiresAt, result, secretOutputs }
    this.#addResult(attempt, stored, this.#append({ type: 'result', ...stored }))
  }

  /** An attempt that was cancelled before its order came: it has only a result. */
  endUnknown(key: AttemptKey, epoch: number, expiresAt: number, result: string): JournaledAttempt {
    const attempt = makeAttempt(key, epoch, expiresAt, undefined, this.#options.clock.now())
    this.recordEpoch(key.taskId, epoch)
    this.end(attempt, result, {})
    this.#attempts.set(attempt.keyText, attempt)
    return attempt
  }

  /** The engine has the result. */
  acknowledge(attempt: JournaledAttempt): void {
    if (attempt.isAcknowledged || !attempt.place) return
    // Without it the result is sent and acknowledged once more after a restart.
    this.#appendIfRoom({ type: 'acknowledged', key: attempt.keyText })
    attempt.isAcknowledged = true
    attempt.result = undefined
    this.#compactWhenLarge()
  }

  /** The attempt's result as it was recorded, from memory or from the file. */
  readResult(attempt: JournaledAttempt): StoredResult | undefined {
    return attempt.result ?? (attempt.place && decodeStoredResult(this.#file.read(attempt.place)))
  }

  /** Resolves when everything recorded so far is on the disk. */
  async flush(): Promise<void> {
    this.#options.onWrite?.('journal.flush:before')
    await this.#file.flush()
    this.#options.onWrite?.('journal.flush:after')
  }

  /** Flushes and closes. */
  async close(): Promise<void> {
    await this.#file.close()
  }

  #append(record: JournalRecord): RecordPlace {
    const { type, payload } = encodeRecord(record)
    this.#options.onWrite?.(`journal.${record.type}:before`)
    const place = this.#file.append(type, payload)
    this.#options.onWrite?.(`journal.${record.type}:after`)
    return place
  }

  /** For what need not be there: on a full disk it is left out. */
  #appendIfRoom(record: JournalRecord): void {
    try {
      this.#append(record)
    } catch (error) {
      if (!isNoSpace(error)) throw error
      this.#options.log.warn({ directory: this.#options.directory, record: record.type, error: String(error) }, 'there is no room in the journal')
    }
  }

  #addIntent(order: Order & { key: AttemptKey }, orderBytes: Buffer, at: number, bootId: string): JournaledAttempt {
    const attempt = makeAttempt(order.key, order.epoch, order.expiresAt, orderBytes, at)
    attempt.acceptedBoot = bootId
    this.#attempts.set(attempt.keyText, attempt)
    const known = this.#epochs.get(order.key.taskId)
    this.#epochs.set(order.key.taskId, { epoch: Math.max(order.epoch, known?.epoch ?? 0), at })
    return attempt
  }

  #addResult(attempt: JournaledAttempt, stored: StoredResult, place: RecordPlace): void {
    attempt.result = stored
    attempt.place = place
    attempt.order = undefined
    attempt.commands = []
    attempt.process = undefined
  }

  /** Reads the file; gives back where its records end. */
  #load(path: string): number {
    const { disk } = this.#options
    const endBytes = readRecords(disk, path, (type, payload, place) => {
      const record = decodeRecord(type, payload)
      if (record) this.#apply(record, place)
      return true
    })
    const droppedBytes = countTornBytes(disk, path, endBytes)
    if (droppedBytes > 0) this.#options.log.warn({ path, droppedBytes }, 'the journal ended in a torn record, as after a power cut; it was dropped')
    return endBytes
  }

  #apply(record: JournalRecord, place: RecordPlace): void {
    if (record.type === 'intent') {
      const order = decodeOrder(record.order)
      if (order.key) this.#addIntent(order as Order & { key: AttemptKey }, record.order, record.at, record.bootId)
      return
    }
    if (record.type === 'epoch') {
      this.#epochs.set(record.task, { epoch: record.epoch, at: record.at })
      return
    }
    if (record.type === 'result') return this.#applyResult(record, place)
    const attempt = this.#attempts.get(record.key)
    if (!attempt) return
    if (record.type === 'begun') {
      attempt.begunAt ??= record.at
      attempt.begunCommand = record.command
      attempt.commandBegunAt = record.at
      attempt.begunBoot = record.bootId
      attempt.process = undefined
    } else if (record.type === 'process') attempt.process = record.process
    else if (record.type === 'command') attempt.commands.push({ result: record.result, outputs: record.outputs, secretOutputs: record.secretOutputs })
    else {
      attempt.isAcknowledged = true
    }
  }

  #applyResult(stored: StoredResult, place: RecordPlace): void {
    const keyText = attemptKeyText(stored.key)
    const attempt = this.#attempts.get(keyText) ?? makeAttempt(stored.key, stored.epoch, stored.expiresAt, undefined, 0)
    this.#attempts.set(keyText, attempt)
    this.#addResult(attempt, stored, place)
  }

  #compactWhenLarge(): void {
    if (this.#file.sizeBytes < compactAboveBytes || this.#file.sizeBytes < 2 * this.#compactedBytes) return
    try {
      const old = this.#file
      this.#compact(old)
      old.close().catch((error: unknown) => this.#options.log.warn({ error: String(error) }, 'the old journal file could not be closed'))
    } catch (error) {
      this.#compactedBytes = this.#file.sizeBytes
      this.#options.log.warn({ error: String(error) }, 'the journal could not be compacted; it goes on growing')
    }
  }

  /** Puts a fresh file in the place of the present one. On an error everything is as before. */
  #compact(old: RecordFile | undefined): void {
    const { disk, directory, clock } = this.#options
    const path = join(directory, 'journal.new')
    let file: RecordFile | undefined
    try {
      file = RecordFile.create(disk, path, clock)
      const places = this.#rewrite(file, old)
      this.#replace(file)
      for (const [attempt, place] of places) {
        attempt.place = place
        if (attempt.isAcknowledged) attempt.result = undefined
      }
      this.#compactedBytes = file.sizeBytes
    } catch (error) {
      if (file !== undefined && file !== this.#file) file.abandon()
      disk.remove(path)
      throw error
    }
  }

  /** Writes what is not forgotten into `file`, and gives back where results lie in it. `old`: where acknowledged results lie; undefined while all are in memory (at opening). */
  #rewrite(file: RecordFile, old: RecordFile | undefined): ReadonlyMap<JournaledAttempt, RecordPlace> {
    const now = this.#options.clock.now()
    const places = new Map<JournaledAttempt, RecordPlace>()
    const append = (record: JournalRecord): RecordPlace => {
      const { type, payload } = encodeRecord(record)
      return file.append(type, payload)
    }
    for (const [task, { epoch, at }] of this.#epochs) {
      if (now - at > taskMemoryMs) this.#epochs.delete(task)
      else append({ type: 'epoch', task, epoch, at })
    }
    for (const attempt of this.#attempts.values()) {
      if (attempt.isAcknowledged && attempt.expiresAt < now) {
        this.#attempts.delete(attempt.keyText)
        continue
      }
      const stored = attempt.result ?? (attempt.place && old ? decodeStoredResult(old.read(attempt.place)) : undefined)
      if (stored) {
        // Once acknowledged, secret outputs are the engine's alone.
        places.set(attempt, append({ type: 'result', ...stored, secretOutputs: attempt.isAcknowledged ? {} : stored.secretOutputs }))
        if (attempt.isAcknowledged) append({ type: 'acknowledged', key: attempt.keyText })
      } else appendUnfinished(attempt, append)
    }
    file.flushNow()
    return places
  }

  #replace(file: RecordFile): void {
    const { directory, disk, onWrite } = this.#options
    onWrite?.('journal.compaction:before')
    disk.rename(join(directory, 'journal.new'), join(directory, 'journal.log'))
    this.#file = file
    disk.syncDirectoryNow(directory)
    onWrite?.('journal.compaction:after')
  }
}

function appendUnfinished(attempt: JournaledAttempt, append: (record: JournalRecord) => RecordPlace): void {
  if (!attempt.order) return
  append({ type: 'intent', at: attempt.acceptedAt, bootId: attempt.acceptedBoot, order: attempt.order })
  for (const end of attempt.commands) append({ type: 'command', key: attempt.keyText, ...end })
  if (attempt.begunAt === undefined) return
  const boot = attempt.begunBoot === undefined ? {} : { bootId: attempt.begunBoot }
  append({ type: 'begun', key: attempt.keyText, command: attempt.begunCommand, at: attempt.begunAt, ...boot })
  if (attempt.commandBegunAt !== attempt.begunAt) append({ type: 'begun', key: attempt.keyText, command: attempt.begunCommand, at: attempt.commandBegunAt, ...boot })
  if (attempt.process) append({ type: 'process', key: attempt.keyText, process: attempt.process })
}

function makeAttempt(key: AttemptKey, epoch: number, expiresAt: number, order: Buffer | undefined, acceptedAt: number): JournaledAttempt {
  return {
    key, keyText: attemptKeyText(key), epoch, expiresAt, order, acceptedAt,
    acceptedBoot: '', begunAt: undefined, begunCommand: -1, commandBegunAt: 0, begunBoot: undefined, process: undefined, commands: [], result: undefined, place: undefined, isAcknowledged: false,
  }
}
