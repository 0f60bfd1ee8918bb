/** A client that tails a task's log over SSE the way a browser's EventSource does: it reconnects with Last-Event-ID and knows nothing else. */
import type { ServerAddress } from '@lichen/demo'

export interface LogRecord {
  readonly offset: number
  readonly node: string
  readonly action: string
  readonly text: string
}

export interface LogReader {
  /** Everything received so far, in order. */
  readonly records: readonly LogRecord[]
  /** How many times the connection had to be made again. */
  readonly reconnections: number
  stop(): Promise<void>
}

/** Starts reading from the first byte. */
export function startLogReader(server: ServerAddress, task: string): LogReader {
  const controller = new AbortController()
  const state = { records: [] as LogRecord[], reconnections: -1, lastId: '' }
  const done = readUntilStopped(server, task, state, controller.signal)
  return {
    get records() {
      return state.records
    },
    get reconnections() {
      return state.reconnections
    },
    stop: async () => {
      controller.abort()
      await done
    },
  }
}

interface ReaderState {
  readonly records: LogRecord[]
  reconnections: number
  lastId: string
}

async function readUntilStopped(server: ServerAddress, task: string, state: ReaderState, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await readConnection(server, task, state, signal)
    } catch {
      // the server is away for the moment: that is what this reader is for
    }
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

async function readConnection(server: ServerAddress, task: string, state: ReaderState, signal: AbortSignal): Promise<void> {
  const headers: Record<string, string> = { authorization: `Bearer ${server.adminToken}`, accept: 'text/event-stream' }
  if (state.lastId !== '') headers['last-event-id'] = state.lastId
  const response = await fetch(`${server.apiUrl}/v1/tasks/${task}/log?follow=true`, { headers, signal })
  if (!response.ok || !response.body) return
  state.reconnections += 1
  const decoder = new TextDecoder()
  let rest = ''
  for await (const bytes of response.body) {
    const blocks = (rest + decoder.decode(bytes as Uint8Array, { stream: true })).split('\n\n')
    rest = blocks.pop() ?? ''
    for (const block of blocks) readEvent(block, state)
  }
}

/** One block of the stream (HTML standard, "Interpreting an event stream"): an event counts once it is whole. */
function readEvent(block: string, state: ReaderState): void {
  const fields = new Map<string, string>()
  for (const line of block.split('\n')) {
    const match = /^([a-z]+): ?(.*)$/.exec(line)
    if (match) fields.set(match[1]!, fields.has(match[1]!) ? `${fields.get(match[1]!)}\n${match[2]}` : match[2]!)
  }
  const data = fields.get('data')
  if (fields.has('id')) state.lastId = fields.get('id')!
  if (data !== undefined && ['log', 'message', undefined].includes(fields.get('event'))) state.records.push(JSON.parse(data) as LogRecord)
}

/** The whole log in one read. */
export async function readWholeLog(server: ServerAddress, task: string): Promise<LogRecord[]> {
  const response = await fetch(`${server.apiUrl}/v1/tasks/${task}/log`, { headers: { authorization: `Bearer ${server.adminToken}`, accept: 'application/x-ndjson' } })
  const text = await response.text()
  return text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as LogRecord)
}
