/**
 * Labels and facts of nodes, parsed from the text in their rows. Owns what was parsed last for each node and gives it back as long as the text is the same: engines read the whole list again
 * every few seconds, and with five thousand nodes the parsing, and the collecting of what it made, would be the larger part of what an idle engine does. What is given back is shared: nobody
 * may change it.
 */
import type { Facts, NodeId } from '@lichen/core'
import { unknownFacts } from './node-rules.js'

/** What of a node's row is JSON text; `facts` is null before its first hello. */
export interface NodeTexts {
  readonly id: NodeId
  readonly labels: string
  readonly facts: string | null
}

export interface ParsedDocuments {
  readonly labels: Readonly<Record<string, string>>
  readonly facts: Facts
}

/** See the file header. */
export class NodeDocuments {
  readonly #known = new Map<NodeId, { readonly texts: NodeTexts; readonly parsed: ParsedDocuments }>()

  /** The documents of this row. */
  decode({ id, labels, facts }: NodeTexts): ParsedDocuments {
    const known = this.#known.get(id)
    if (known !== undefined && known.texts.labels === labels && known.texts.facts === facts) return known.parsed
    const parsed = { labels: JSON.parse(labels) as Record<string, string>, facts: facts === null ? unknownFacts(id) : (JSON.parse(facts) as Facts) }
    this.#known.set(id, { texts: { id, labels, facts }, parsed })
    return parsed
  }

  /** Forgets nodes that are in none of these rows, which are all there are. */
  keepOnly(rows: readonly { readonly id: NodeId }[]): void {
    if (this.#known.size <= rows.length) return
    const there = new Set(rows.map(({ id }) => id))
    for (const id of this.#known.keys()) if (!there.has(id)) this.#known.delete(id)
  }
}
