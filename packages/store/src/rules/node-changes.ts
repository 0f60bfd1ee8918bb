/** The answer of `NodeStore.readNodeChanges`, out of the rows that either store reads for it. */
import type { NodeId } from '@lichen/core'
import type { NodeChanges, StoredNode } from '../ports/node-store.js'

interface KnownColumns {
  readonly id: NodeId
  readonly lastSeenAt: number
}

/**
 * A row: with all columns of the node when it has changed (1 or true), else with the known ones alone; without an id when there is nothing to tell but the cursor and the count, of which every row has
 * the same.
 */
export type ChangeRow<Row extends KnownColumns> = { readonly cursor: number; readonly count: number } & (
  | { readonly id: null }
  | ({ readonly isChanged: true | 1 } & Row)
  | ({ readonly isChanged: false | 0 } & KnownColumns)
)

/** At least one row, in the order of their ids. `decode`: the node of a row that has changed. */
export function foldChangeRows<Row extends KnownColumns>(rows: readonly ChangeRow<Row>[], decode: (row: Row) => StoredNode): NodeChanges {
  const [{ cursor, count }] = rows as readonly [ChangeRow<Row>]
  const changed: StoredNode[] = []
  const seen: KnownColumns[] = []
  for (const row of rows) {
    if (row.id === null) continue
    if (!row.isChanged) {
      seen.push({ id: row.id, lastSeenAt: row.lastSeenAt })
      continue
    }
    const { cursor: _cursor, count: _count, isChanged: _isChanged, ...node } = row
    changed.push(decode(node as unknown as Row))
  }
  return { cursor, changed, seen, count }
}
