/**
 * Content keys: what an action is about, in 64 characters. Two actions of the same key have the same effect on the same installation of the same node.
 *
 * The key covers the commands as planned, the mode, and when the node joined: a machine that was installed anew under an old name has nothing of what was applied.
 * It does not cover what changes by itself: facts that no template names, limits of time, retries, the order, and the values that references stand for.
 */
import type { Command } from '../command/command-schema.js'
import type { ActionId } from '../ids.js'
import { findReferences } from '../secret/reference.js'
import type { ActionMode } from './action-graph.js'
import { digestOfText, encodeCanonical } from './digest.js'

export interface Content {
  readonly key: string
  /** Characters of the commands as JSON. */
  readonly size: number
  /** Actions whose outputs the commands name. */
  readonly uses: readonly ActionId[]
}

/** The content of an action with these commands on a node that joined at this time (ms since the epoch). */
export function buildContent(commands: readonly Command[], mode: ActionMode, joinedAt: number): Content {
  const text = encodeCanonical({ commands, joinedAt, mode })
  const references = text.includes('⟦output:') ? findReferences(text) : []
  return { key: digestOfText(text), size: text.length, uses: references.flatMap((reference) => (reference.kind === 'output' ? [reference.action as ActionId] : [])) }
}
