/** What later tasks of a deployment must know of an apply, in a document of its own: reading it does not read the graph, which may have 50 MB. */
import type { ActionGraph, Footprint } from '@lichen/core'

type Stored = Pick<Footprint, 'placement' | 'nodes' | 'departures' | 'secretVersions'>

/** The document beside the graph of a task. */
export function encodeFootprint({ placement, known, departures, secretVersions }: ActionGraph): string {
  const stored: Stored = { placement, nodes: known?.nodes ?? {}, departures: departures ?? [], ...(secretVersions && { secretVersions }) }
  return JSON.stringify(stored)
}

/** A row of the newest planned apply. `isDestroyed`: SQLite has no booleans. */
export interface FootprintRow {
  readonly plan: string
  readonly placement: string
  readonly isDestroyed: boolean | number
}

/** The footprint in a row. Old versions wrote the placement alone: lists of nodes by group. */
export function decodeFootprint({ plan, placement: text, isDestroyed }: FootprintRow): Footprint {
  const document = JSON.parse(text) as Stored | Footprint['placement']
  const stored = isStored(document) ? document : { placement: document, nodes: {}, departures: [] }
  return { ...stored, plan, isDestroyed: Boolean(isDestroyed) }
}

const isStored = (document: Stored | Footprint['placement']): document is Stored => document['placement'] !== undefined && !Array.isArray(document['placement'])
