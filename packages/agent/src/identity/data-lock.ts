/** Two agents on one data directory would answer the same orders twice: the second is refused. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LichenError } from '@lichen/core'
import { markProcess, readBootId } from '../programs/process-group.js'

/**
 * Takes the directory for this process and gives back how to leave it. The file names the process with its start time and boot, so one that a crash
 * left behind does not count.
 * @throws AGENT_DATA_IN_USE when another agent runs on it.
 */
export function lockDataDirectory(directory: string): () => void {
  const path = join(directory, 'agent.lock')
  const own = JSON.stringify(markProcess(process.pid, readBootId()))
  const holder = readHolder(path)
  if (holder && isAlive(holder)) throw new LichenError('AGENT_DATA_IN_USE', `another agent (process ${holder.pid}) runs on ${directory}`)
  writeFileSync(path, own, { mode: 0o600 })
  return () => {
    if (readHolder(path) !== undefined) rmSync(path, { force: true })
  }
}

interface Holder {
  readonly pid: number
  readonly startTime: string
  readonly bootId: string
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
