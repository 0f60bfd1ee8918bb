/** Two agents on one data directory would answer the same orders twice: the second is refused. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { LichenError } from '@lichen/core'
import { markProcess, readBootId } from '../programs/process-group.js'

/** More than what names a process takes. The file keeps this size and is written in place, so that a full disk does not matter. */
const lockBytes = 256

/**
 * Takes the directory for this process and gives back how to leave it. The file names the process with its start time and boot, so one that a crash
 * left behind does not count; it is empty when nobody holds it.
 * @throws AGENT_DATA_IN_USE when another agent runs on it.
 */
export function lockDataDirectory(directory: string): () => void {
  const path = join(directory, 'agent.lock')
  const holder = readHolder(path)
  if (holder && isAlive(holder)) throw new LichenError('AGENT_DATA_IN_USE', `another agent (process ${holder.pid}) runs on ${directory}`)
  write(path, JSON.stringify(markProcess(process.pid, readBootId())))
  return () => {
    if (readHolder(path) !== undefined) write(path, '')
  }
}

interface Holder {
  readonly pid: number
  readonly startTime: string
  readonly bootId: string
}

function write(path: string, text: string): void {
  closeSync(openSync(path, 'a', 0o600))
  const fd = openSync(path, 'r+')
  try {
    writeSync(fd, text.padEnd(lockBytes), 0)
  } finally {
    closeSync(fd)
  }
}

function readHolder(path: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Holder
  } catch {
    return undefined
  }
}

function isAlive(holder: Holder): boolean {
  const bootId = readBootId()
  return holder.bootId === bootId && markProcess(holder.pid, bootId)?.startTime === holder.startTime
}
