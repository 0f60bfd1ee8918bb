/**
 * Chunks of a task's log as bytes for a client. Works on buffers: 50 MB/s must pass, so a line becomes an object nowhere.
 * The offset given with a line is the one after it (docs/decisions/0003): a reader that asks for it gets the next line.
 */
import type { LogChunkRecord } from '@lichen/store'

export type LogFormat = 'text' | 'ndjson' | 'sse'

/** Bytes for the client, and the offset after the last of them. */
export interface RenderedLog {
  readonly bytes: Uint8Array
  readonly next: number
}

const newline = 10

/**
 * The part of these chunks from `from` (an offset) on, in this format. `isRaw`: text without the prefix that names node and action.
 */
export function renderLog(chunks: readonly LogChunkRecord[], from: number, format: LogFormat, isRaw: boolean): RenderedLog {
  const parts: Uint8Array[] = []
  let next = from
  for (const chunk of chunks) {
    const skip = Math.max(0, from - chunk.offset)
    if (skip >= chunk.data.length) continue
    const data = asBuffer(chunk.data).subarray(skip)
    next = chunk.offset + chunk.data.length
    if (format === 'text') parts.push(isRaw ? data : prefixLines(data, Buffer.from(`${chunk.node} ${nameAction(chunk)} | `)))
    else parts.push(Buffer.from(renderRecords(chunk, data, chunk.offset + skip, format === 'sse')))
  }
  return { bytes: parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts), next }
}

const asBuffer = (data: Uint8Array): Buffer => (Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength))

/** `keystone/install@node-2` on node-2 is `keystone/install`: the node stands before it. */
const nameAction = (chunk: LogChunkRecord): string => (chunk.action.endsWith(`@${chunk.node}`) ? chunk.action.slice(0, -chunk.node.length - 1) : chunk.action)

function countLines(data: Buffer): number {
  let lines = 0
  for (let at = data.indexOf(newline); at >= 0; at = data.indexOf(newline, at + 1)) lines += 1
  return data.at(-1) === newline ? lines : lines + 1
}

/** Every line with the prefix before it; a last line without its newline gets one. */
function prefixLines(data: Buffer, prefix: Buffer): Buffer {
  const isOpen = data.at(-1) !== newline
  const out = Buffer.allocUnsafe(data.length + countLines(data) * prefix.length + (isOpen ? 1 : 0))
  let to = 0
  for (let start = 0; start < data.length; ) {
    const found = data.indexOf(newline, start)
    const end = found < 0 ? data.length : found + 1
    to += prefix.copy(out, to)
    to += data.copy(out, to, start, end)
    start = end
  }
  if (isOpen) out[to] = newline
  return out
}

/** One record for each line. All of a record but its offset and text is the same within a chunk and is written once. */
function renderRecords(chunk: LogChunkRecord, data: Buffer, base: number, isSse: boolean): string {
  const { at, node, action, attempt, command, stream } = chunk
  const fixed = `,${JSON.stringify({ at, node, action, attempt, command, stream }).slice(1, -1)},"text":`
  let out = ''
  for (let start = 0; start < data.length; ) {
    const found = data.indexOf(newline, start)
    const end = found < 0 ? data.length : found
    const next = base + (found < 0 ? end : end + 1)
    const record = `{"offset":${next}${fixed}${JSON.stringify(data.toString('utf8', start, end))}}`
    out += isSse ? `id: ${next}\ndata: ${record}\n\n` : `${record}\n`
    start = end + 1
  }
  return out
}
