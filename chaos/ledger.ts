/** The ledgers that the commands wrote: what really happened on each node, whatever anybody reported (effect.sh writes them). */
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** One run of effect.sh. Times are milliseconds since the epoch. */
export interface Execution {
  readonly id: string
  readonly mark: string
  readonly beganAt: number
  /** The effect's line; for `creates` the end. Undefined when it was interrupted before. */
  readonly effectAt: number | undefined
  /** It came to its end, all lines printed: `flaky` ones may have failed there. Undefined when it was interrupted. */
  readonly endedAt: number | undefined
  /** `creates` alone: it found its file made already. */
  readonly isDouble: boolean
}

export interface Ledger {
  readonly node: string
  /** In the order in which they began. */
  readonly executions: readonly Execution[]
  /** Marks whose file is there, and when it was written. */
  readonly made: ReadonlyMap<string, number>
}

/** Executions of a mark. */
export const executionsOf = (ledger: Ledger, mark: string): readonly Execution[] => ledger.executions.filter((execution) => execution.mark === mark)

/** The ledger in a node's directory (`HOME` of effect.sh). */
export function readLedger(node: string, home: string): Ledger {
  const names = readdirSync(join(home, 'made'))
  // The link has the time of what it links to, written just before.
  const made = new Map(names.filter((name) => !name.startsWith('.')).map((name) => [name, statSync(join(home, 'made', name)).mtimeMs]))
  return { node, executions: parseLedger(readFileSync(join(home, 'ledger'), 'utf8')), made }
}

/** The executions in a ledger's text. @throws for a line that effect.sh does not write */
export function parseLedger(text: string): readonly Execution[] {
  const executions = new Map<string, { -readonly [field in keyof Execution]: Execution[field] }>()
  for (const line of text.split('\n')) {
    if (line === '') continue
    const [time = '', event, mark = '', id = ''] = line.split(' ')
    const at = Number(time) * 1000
    if (event === 'begin') {
      executions.set(id, { id, mark, beganAt: at, effectAt: undefined, endedAt: undefined, isDouble: false })
      continue
    }
    const execution = executions.get(id)
    if (execution === undefined) throw new Error(`the ledger has a line of an execution that did not begin: ${line}`)
    if (event === 'effect') execution.effectAt = at
    else if (event === 'double') execution.isDouble = true
    else if (event === 'end') {
      execution.endedAt = at
      execution.effectAt ??= at
    } else if (event === 'failed') execution.endedAt = at
    else throw new Error(`the ledger has a line that nobody writes: ${line}`)
  }
  return [...executions.values()]
}
