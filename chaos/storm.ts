/** Faults one after another and beside each other, at a steady pace, each victim in one trouble at a time; counts what was done. */
import type { Fault, Harm, Victim } from './faults.js'
import { pause } from './patience.js'
import type { Random } from './random.js'

export interface StormOptions {
  readonly faults: readonly Fault[]
  readonly random: Random
  /** Ends when so many victims were killed… */
  readonly kills: number
  /** …and no sooner than this. */
  readonly atLeastMs: number
  /** Mean pause between the beginnings of two faults. */
  readonly paceMs: number
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

export interface Toll {
  /** How often each kind of victim came to each harm. */
  readonly counts: ReadonlyMap<Victim, ReadonlyMap<Harm, number>>
  readonly kills: number
  readonly durationMs: number
}

/** The storm, over: everything is mended. @throws when something could not be mended */
export async function runStorm({ faults, random, kills: wanted, atLeastMs, paceMs, say, signal }: StormOptions): Promise<Toll> {
  const counts = new Map<Victim, Map<Harm, number>>()
  const busy = new Set<string>()
  const running = new Set<Promise<void>>()
  const failures: Error[] = []
  const startedAt = Date.now()
  let kills = 0

  const begin = (fault: Fault): void => {
    const ofVictim = counts.get(fault.victim) ?? new Map<Harm, number>()
    counts.set(fault.victim, ofVictim.set(fault.harm, (ofVictim.get(fault.harm) ?? 0) + 1))
    kills += fault.kills
    for (const place of fault.places) busy.add(place)
    say(`${fault.harm} ${fault.victim} ${fault.name}`)
    const end = fault.strike(random)
      .catch((error: unknown) => void failures.push(error instanceof Error ? error : new Error(String(error))))
      .finally(() => {
        for (const place of fault.places) busy.delete(place)
        running.delete(end)
      })
    running.add(end)
  }

  while ((kills < wanted || Date.now() - startedAt < atLeastMs) && failures.length === 0 && !signal.aborted) {
    const free = faults.filter(({ places }) => places.every((place) => !busy.has(place)))
    const index = random.weighted(Object.fromEntries(free.map(({ weight }, place) => [String(place), weight])))
    if (index !== undefined) begin(free[Number(index)]!)
    await pause(paceMs * (0.3 + 1.4 * random.next()))
  }
  await Promise.all(running)
  if (failures.length > 0) throw new AggregateError(failures, `what was broken could not be mended: ${failures.map(({ message }) => message).join('; ')}`)
  return { counts, kills, durationMs: Date.now() - startedAt }
}
