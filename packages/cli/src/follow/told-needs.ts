import type { Need } from './needs.js'

/** Needs that the viewer has read, by what they are. */
export type ToldNeeds = ReadonlySet<string>

const keyOf = ({ kind, subject, text }: Need): string => JSON.stringify([kind, subject, text])

/** The needs that are to be told now, and what will have been told then. One that went away and came back is told again. */
export function findUntoldNeeds(needs: readonly Need[], told: ToldNeeds): { readonly needs: readonly Need[]; readonly told: ToldNeeds } {
  return { needs: needs.filter((need) => !told.has(keyOf(need))), told: new Set(needs.map(keyOf)) }
}
