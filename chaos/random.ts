/** Seeded randomness: the same seed gives the same choices. (Not the same run: real processes keep their own time.) */
export interface Random {
  /** From 0 (included) to 1 (excluded). */
  next(): number
  /** A whole number from `low` to `high`, both included. */
  integer(low: number, high: number): number
  pick<T>(items: readonly T[]): T
  /** One of the keys, as often as its weight says; undefined when there is none. */
  weighted<K extends string>(weights: Readonly<Partial<Record<K, number>>>): K | undefined
}

/** A stream of its own for each purpose, so that another choice in one does not move the others (mulberry32, seeded by FNV-1a of seed and purpose). */
export function openRandom(seed: number, purpose: string): Random {
  let state = [...`${seed} ${purpose}`].reduce((hash, letter) => Math.imul(hash ^ letter.charCodeAt(0), 0x01000193), 0x811c9dc5)
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const random: Random = {
    next,
    integer: (low, high) => low + Math.floor(next() * (high - low + 1)),
    pick: (items) => items[Math.floor(next() * items.length)]!,
    weighted(weights) {
      const entries = Object.entries(weights) as [never, number][]
      let left = next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
      return entries.find(([, weight]) => (left -= weight) < 0)?.[0]
    },
  }
  return random
}
