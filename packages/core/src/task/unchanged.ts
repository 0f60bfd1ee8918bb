/** Whether an action may be left out because nothing about it changed. Asked once, when everything that it comes after is settled: the answer is final then. */
import type { Command } from '../command/command-schema.js'
import type { ActionId } from '../ids.js'
import { findReferences } from '../secret/reference.js'
import type { TaskIndex, Vertex } from './task-index.js'

/**
 * True when the action is as it last succeeded, nothing that it comes after has changed anything in this task, its own effect was not touched by an attempt of this task,
 * its check found the effect, and every action whose output its commands name is unchanged too.
 */
export function canStayUnchanged(index: TaskIndex, vertex: Vertex): boolean {
  const { unchanged } = vertex.action
  if (unchanged === null || vertex.reach !== 'none') return false
  if (unchanged.check !== null && !isVerified(vertex, unchanged.check)) return false
  for (const name of listNamedActions(vertex.action.commands)) if (index.byId.get(name)?.view.isUnchanged !== true) return false
  return true
}

/** What comes after the command at which the verifying action stopped has no result, and so was not verified. */
function isVerified({ slice }: Vertex, check: ActionId): boolean {
  const commands = slice?.by.view.result?.commands
  if (slice?.by.action.id !== check || commands === undefined || commands.length < slice.to) return false
  for (let at = slice.from; at < slice.to; at++) if (commands[at]?.outcome !== 'succeeded' || commands[at]?.changed !== false) return false
  return true
}

/** Actions whose outputs the commands name. */
function listNamedActions(commands: readonly Command[]): ReadonlySet<ActionId> {
  const found = new Set<ActionId>()
  // Few name any, and looking at the text as a whole is far quicker than at each value.
  if (!JSON.stringify(commands).includes('⟦output:')) return found
  const visit = (value: unknown): void => {
    if (typeof value === 'string') for (const reference of findReferences(value)) if (reference.kind === 'output') found.add(reference.action as ActionId)
    if (typeof value !== 'object' || value === null) return
    for (const [name, inner] of Object.entries(value)) {
      visit(name)
      visit(inner)
    }
  }
  visit(commands)
  return found
}
