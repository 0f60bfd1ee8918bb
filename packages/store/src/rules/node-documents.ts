/**
 * Labels and facts of nodes, parsed from the text in their rows. Owns what was parsed last for each node and gives it back as long as the text is the same: the API reads the whole list again
 * for plan after plan, and with five thousand nodes the parsing, and the collecting of what it made, would be the larger part of that. What is given back is shared: nobody
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

/** The documents of this row, parsed. */
export const parseDocuments = ({ id, labels, facts }: NodeTexts): ParsedDocuments => ({ labels: JSON.parse(labels) as Record<string, string>, facts: facts === null ? unknownFacts(id) : (JSON.parse(facts) as Facts) })

/** See the file header. */
export class NodeDocuments {
  readonly #known = new Map<NodeId, { readonly texts: NodeTexts; readonly parsed: ParsedDocuments }>()

  /** The documents of this row. */
  decode(texts: NodeTexts): ParsedDocuments {
    const { id, labels, facts } = texts
    const known = this.#known.get(id)
    if (known !== undefined && known.texts.labels === labels && known.texts.facts === facts) return known.parsed
    const parsed = parseDocuments(texts)
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
