import type { TaskId } from '@lichen/core'
import type { Store } from '@lichen/store'
import type { LogTail } from './log-tail.js'

const firstWindowBytes = 64 * 1024

/** The offset at which the last `lines` lines begin that the filter lets through, counted back from `end`; 0 when there are no more than that. Costs about twice the bytes of those lines. */
export async function findLastLines(store: Pick<Store, 'logs'>, task: TaskId, end: number, lines: number, filter: LogTail['filter']): Promise<number> {
  if (lines === 0) return end
  for (let windowBytes = firstWindowBytes; ; windowBytes *= 4) {
    const from = Math.max(0, end - windowBytes)
    const starts = await listLineStarts(store, task, from, end, filter)
    // The first one may be the middle of a line.
    const whole = from === 0 ? starts : starts.slice(1)
    if (whole.length >= lines) return whole[whole.length - lines] as number
    if (from === 0) return whole[0] ?? end
  }
}

async function listLineStarts(store: Pick<Store, 'logs'>, task: TaskId, from: number, end: number, filter: LogTail['filter']): Promise<number[]> {
  const starts: number[] = []
  let offset = from
  while (offset < end) {
    const chunks = await store.logs.readLog(task, offset, 1024 * 1024, filter)
    if (chunks.length === 0) break
    for (const chunk of chunks) {
      const skip = Math.max(0, offset - chunk.offset)
      for (let at = skip; at < chunk.data.length; ) {
        if (chunk.offset + at < end) starts.push(chunk.offset + at)
        const found = chunk.data.indexOf(10, at)
        at = found < 0 ? chunk.data.length : found + 1
      }
      offset = chunk.offset + chunk.data.length
    }
  }
  return starts
}
