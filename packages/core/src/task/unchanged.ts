/** Whether an action may be left out because nothing about it changed. Asked when everything that it comes after is settled: the answer is final then. */
import type { Command } from '../command/command-schema.js'
import type { ActionId } from '../ids.js'
import { findReferences } from '../secret/reference.js'
import { reachAt } from './reach.js'
import { type AnyVertex, type GateVertex, isOpen, type TaskIndex, type Vertex } from './task-index.js'

/**
 * True when the action is as it last succeeded, nothing that it comes after has changed anything in this task, its own effect was not touched by an attempt of this task,
 * its check found the effect, and every action whose output its commands name is unchanged too.
 */
export function canStayUnchanged(index: TaskIndex, vertex: Vertex): boolean {
  return isAsItWas(vertex) && listNamedActions(vertex.action.commands).every((name) => index.byId.get(name)?.view.isUnchanged === true)
}

/**
 * True when nothing that a person would approve comes after the gate: of its component, as far as the next approval, every action has succeeded already or will stay unchanged.
 * False while that is not certain, because something else that one of them comes after has not ended.
 */
export function hasNothingToApprove(index: TaskIndex, gate: GateVertex): boolean {
  const guarded = new Set<AnyVertex>([gate])
  for (const vertex of guarded) {
    for (const dependent of vertex.dependents) {
      const isOther = dependent.kind === 'gate' ? dependent.gate.approve || dependent.gate.component !== gate.gate.component : dependent.action.component !== gate.gate.component
      if (isOther) continue
      // The gate passes on what changed before it when it opens.
      if (reachAt(vertex, dependent) !== 'none') return false
      guarded.add(dependent)
    }
  }
  if (guarded.size === 1) return false
  for (const vertex of guarded) {
    if (vertex === gate) continue
    if (!vertex.before.every((before) => guarded.has(before) || !isOpen(index, before))) return false
    if (vertex.kind === 'gate' || vertex.view.state === 'succeeded') continue
    if (vertex.view.state !== 'pending' || !isAsItWas(vertex)) return false
    for (const name of listNamedActions(vertex.action.commands)) {
      const named = index.byId.get(name)
      if (named === undefined || !(named.view.isUnchanged || (guarded.has(named) && named.view.state === 'pending'))) return false
    }
  }
  return true
}

/** Nothing about it, or before it, has changed, and its check found its effect. What its commands name is another question. */
function isAsItWas(vertex: Vertex): boolean {
  const { unchanged } = vertex.action
  return unchanged !== null && vertex.reach === 'none' && (unchanged.check === null || isVerified(vertex, unchanged.check))
}

/** What comes after the command at which the verifying action stopped has no result, and so was not verified. */
function isVerified({ slice }: Vertex, check: ActionId): boolean {
  const commands = slice?.by.view.result?.commands
  if (slice?.by.action.id !== check || commands === undefined || commands.length < slice.to) return false
  for (let at = slice.from; at < slice.to; at++) if (commands[at]?.outcome !== 'succeeded' || commands[at]?.changed !== false) return false
  return true
}

/** Actions whose outputs the commands name. */
function listNamedActions(commands: readonly Command[]): readonly ActionId[] {
  const found = new Set<ActionId>()
  // Few name any, and looking at the text as a whole is far quicker than at each value.
  if (!JSON.stringify(commands).includes('⟦output:')) return []
  const visit = (value: unknown): void => {
    if (typeof value === 'string') for (const reference of findReferences(value)) if (reference.kind === 'output') found.add(reference.action as ActionId)
    if (typeof value !== 'object' || value === null) return
    for (const [name, inner] of Object.entries(value)) {
      visit(name)
      visit(inner)
    }
  }
  visit(commands)
  return [...found]
}
