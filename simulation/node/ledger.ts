/**
 * What programs really did to the nodes: the one account that no part of the system can write. Append-only; the invariants compare it with what is reported.
 */

/** How often an effect was brought about on a node, since it was last not there. */
export interface EffectState {
  readonly node: string
  readonly key: string
  count: number
  /** Every time it was brought about, also those that somebody undid. */
  total: number
}

/** Something that a program did. */
export interface LedgerEntry {
  readonly at: number
  readonly node: string
  readonly key: string
  readonly run: string
  /** How often the effect is there now: more than once is a repetition. */
  readonly count: number
}

/** One start of a program that has an effect. */
export interface ProgramRun {
  readonly id: string
  readonly node: string
  readonly key: string
  readonly name: string
  readonly startedAt: number
  /** Lines that it has printed. */
  readonly lines: { stdout: number; stderr: number }
  /** Its last lines may be missing: the machine lost its power before they were on its disk. */
  isOutputAtRisk: boolean
  endedAt: number | null
}

/** Who is told what programs do. */
export interface LedgerListener {
  happened(entry: LedgerEntry): void
  ranTwice(node: string, key: string, runs: readonly ProgramRun[]): void
}

/** See the file header. */
export class Ledger {
  readonly entries: LedgerEntry[] = []
  readonly runs = new Map<string, ProgramRun>()
  readonly #effects = new Map<string, EffectState>()
  readonly #starts = new Map<string, number>()
  readonly #listener: LedgerListener

  constructor(listener: LedgerListener) {
    this.#listener = listener
  }

  /** The effect on the node, which may not be there yet. */
  effect(node: string, key: string): EffectState {
    const text = `${node} ${key}`
    let known = this.#effects.get(text)
    if (known === undefined) this.#effects.set(text, (known = { node, key, count: 0, total: 0 }))
    return known
  }

  effects(): Iterable<EffectState> {
    return this.#effects.values()
  }

  isThere(node: string, key: string): boolean {
    return (this.#effects.get(`${node} ${key}`)?.count ?? 0) > 0
  }

  /** How often programs for this effect were started before. */
  countStart(node: string, key: string): number {
    const text = `${node} ${key}`
    const before = this.#starts.get(text) ?? 0
    this.#starts.set(text, before + 1)
    return before
  }

  begin(run: ProgramRun): void {
    this.runs.set(run.id, run)
    const others = [...this.runs.values()].filter((one) => one.node === run.node && one.key === run.key && one.endedAt === null)
    if (others.length > 1) this.#listener.ranTwice(run.node, run.key, others)
  }

  /** The effect happens. */
  happen(at: number, run: ProgramRun): void {
    const effect = this.effect(run.node, run.key)
    effect.count += 1
    effect.total += 1
    const entry = { at, node: run.node, key: run.key, run: run.id, count: effect.count }
    this.entries.push(entry)
    this.#listener.happened(entry)
  }

  /** Somebody undid the effect by hand, or the node was installed anew. */
  undo(node: string, key?: string): void {
    for (const effect of this.#effects.values()) if (effect.node === node && (key === undefined || effect.key === key)) effect.count = 0
  }
}
