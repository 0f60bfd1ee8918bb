import { randomBytes } from 'node:crypto'
import { taskId, type TaskId } from '@lichen/core'

// Crockford's base 32, as in ULID (https://github.com/ulid/spec): sorts as text in the order of numbers.
const digits = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const timeLength = 10
const randomLength = 16

/**
 * Makes task ids: `t-` and a ULID. Ids of one maker only grow, also within a millisecond and when the clock steps back; those of two
 * replicas are in the order of their clocks.
 */
export function buildTaskIds(now: () => number): () => TaskId {
  let lastAt = 0
  let tail: number[] = []
  return () => {
    const at = now()
    if (at > lastAt) {
      lastAt = at
      tail = [...randomBytes(randomLength)].map((byte) => byte & 31)
    } else tail = increment(tail)
    return taskId(`t-${encodeTime(lastAt)}${tail.map((digit) => digits[digit]).join('')}`)
  }
}

function encodeTime(at: number): string {
  let text = ''
  for (let rest = at, place = 0; place < timeLength; place++, rest = Math.floor(rest / 32)) text = digits[rest % 32] + text
  return text
}

function increment(tail: readonly number[]): number[] {
  const next = [...tail]
  for (let place = next.length - 1; place >= 0; place--) {
    next[place] = ((next[place] ?? 0) + 1) & 31
    if (next[place] !== 0) break
  }
  return next
}
