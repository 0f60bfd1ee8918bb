/** What the journal's records hold, and their bytes. A record that a newer version wrote and this one does not know is skipped. */
import type { CommandResult } from '@lichen/core'
import type { AttemptKey } from '@lichen/protocol'

/** Numbers of the record types; never reused. 1 was an intent without its boot. */
export const recordType = { intent: 8, begun: 2, process: 3, command: 4, result: 5, acknowledged: 6, epoch: 7 } as const

/** A process that a command started: enough to know it again after a restart of the agent. */
export interface ProcessMark {
  readonly pid: number
  /** Clock ticks since boot, field 22 of /proc/PID/stat: with pid and boot id it names one process for good. */
  readonly startTime: string
  readonly bootId: string
  /** Name of the supervised program; undefined for a check's child. */
  readonly run?: string | undefined
}

export type JournalRecord =
  /** The encoded Order, as it was signed. `bootId`: of the boot of the node in which it was accepted. */
  | { readonly type: 'intent'; readonly at: number; readonly bootId: string; readonly order: Buffer }
  | { readonly type: 'begun'; readonly key: string; readonly command: number; readonly at: number; readonly bootId?: string }
  | { readonly type: 'process'; readonly key: string; readonly process: ProcessMark }
  | { readonly type: 'command'; readonly key: string; readonly result: CommandResult; readonly outputs: Readonly<Record<string, string>>; readonly secretOutputs: Readonly<Record<string, string>> }
  | ({ readonly type: 'result' } & StoredResult)
  | { readonly type: 'acknowledged'; readonly key: string }
  | { readonly type: 'epoch'; readonly task: string; readonly epoch: number; readonly at: number }

/** The end of an attempt. `result`: JSON of AttemptResult, kept as text so that it is sent as it was recorded. */
export interface StoredResult {
  readonly key: AttemptKey
  readonly epoch: number
  /** The attempt may be forgotten when this is over and the result is acknowledged: a duplicate would be refused as expired. */
  readonly expiresAt: number
  readonly result: string
  readonly secretOutputs: Readonly<Record<string, string>>
}

/** When, and how long the name of the boot is. */
const intentHeadBytes = 10

/** Type number and payload of the record. */
export function encodeRecord(record: JournalRecord): { readonly type: number; readonly payload: Buffer } {
  if (record.type === 'intent') {
    const boot = Buffer.from(record.bootId, 'utf8')
    const head = Buffer.allocUnsafe(intentHeadBytes)
    head.writeDoubleLE(record.at)
    head.writeUInt16LE(boot.length, 8)
    return { type: recordType.intent, payload: Buffer.concat([head, boot, record.order]) }
  }
  if (record.type === 'result') {
    const head = JSON.stringify({ key: record.key, epoch: record.epoch, expiresAt: record.expiresAt, secretOutputs: record.secretOutputs })
    return { type: recordType.result, payload: Buffer.from(`${head}\n${record.result}`, 'utf8') }
  }
  const { type, ...rest } = record
  return { type: recordType[type], payload: Buffer.from(JSON.stringify(rest), 'utf8') }
}

/** The record, or undefined when its type is not known here. */
export function decodeRecord(type: number, payload: Buffer): JournalRecord | undefined {
  if (type === recordType.intent) {
    const order = intentHeadBytes + payload.readUInt16LE(8)
    return { type: 'intent', at: payload.readDoubleLE(0), bootId: payload.toString('utf8', intentHeadBytes, order), order: payload.subarray(order) }
  }
  if (type === recordType.result) return { type: 'result', ...decodeStoredResult(payload) }
  const name = Object.entries(recordType).find(([, number]) => number === type)?.[0]
  return name === undefined ? undefined : ({ type: name, ...JSON.parse(payload.toString('utf8')) } as JournalRecord)
}

/** The stored result in the payload of a `result` record. */
export function decodeStoredResult(payload: Buffer): StoredResult {
  const line = payload.indexOf(10)
  const head = JSON.parse(payload.toString('utf8', 0, line)) as Omit<StoredResult, 'result'>
  return { ...head, result: payload.toString('utf8', line + 1) }
}
