/**
 * Seeded randomness. One stream for each kind of thing, derived from the seed and the name of the kind: drawing more numbers for one kind (a new fault, say) leaves
 * the numbers of all others as they were. The generator is sfc32 (PractRand, Chris Doty-Humphrey): small state, long period, and fast in 32-bit integers.
 */

/** A stream of numbers that looks random and is the same each time. */
export interface Random {
  /** From 0 up to, not including, 1. */
  next(): number
  /** An integer from `from` to `to`, both included. */
  integer(from: number, to: number): number
  /** A number from `from` up to `to`. */
  between(from: number, to: number): number
  /** True so often, from 0 (never) to 1 (always). */
  chance(probability: number): boolean
  /** One of them; the list must not be empty. */
  pick<T>(items: readonly T[]): T
  /** The same items in some order; the list that is given stays as it is. */
  shuffle<T>(items: readonly T[]): T[]
  /** Short waits mostly, long ones now and then: `typical` times something from 0.3 to 2, and one in fifty ten times that. */
  delay(typicalMs: number): number
}

/** A number of 32 bits made of every character of the text. */
function hashText(text: string, start: number): number {
  let hash = start ^ 0x9e3779b9
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x85ebca6b)
    hash = (hash << 13) | (hash >>> 19)
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0xc2b2ae35)
  return (hash ^ (hash >>> 15)) >>> 0
}

/** The stream of this seed and kind. */
export function buildRandom(seed: number, kind: string): Random {
  let a = hashText(kind, seed >>> 0)
  let b = hashText(kind, Math.floor(seed / 2 ** 32) ^ 0x5bd1e995)
  let c = (seed ^ 0x27d4eb2f) >>> 0
  let counter = 1

  function draw(): number {
    const sum = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + sum) | 0
    return sum >>> 0
  }
  for (let round = 0; round < 12; round++) draw()

  const next = (): number => draw() / 4_294_967_296
  const integer = (from: number, to: number): number => from + Math.floor(next() * (to - from + 1))
  return {
    next,
    integer,
    between: (from, to) => from + next() * (to - from),
    chance: (probability) => next() < probability,
    pick: (items) => items[integer(0, items.length - 1)]!,
    shuffle(items) {
      const shuffled = [...items]
      for (let at = shuffled.length - 1; at > 0; at--) {
        const other = integer(0, at)
        ;[shuffled[at], shuffled[other]] = [shuffled[other]!, shuffled[at]!]
      }
      return shuffled
    },
    delay: (typicalMs) => typicalMs * (0.3 + next() * 1.7) * (next() < 0.02 ? 10 : 1),
  }
}
