/**
 * What need not be done again: actions whose content is the one that they last succeeded with, and the actions that look whether their effects are still there.
 * docs/decisions/0015-unchanged-actions.md says why it is one look for each node.
 */
import type { Command } from '../command/command-schema.js'
import type { ActionId, NodeId, TaskId } from '../ids.js'
import type { Action, Gate, Verification } from './action-graph.js'
import { actionIdOf, reservedComponent } from './action-ids.js'
import { betweenCommandsMs, isPreflightGate } from './action-planner.js'
import type { Content } from './content.js'
import { digestOf } from './digest.js'

/** How an action last succeeded in its deployment. */
export interface AppliedContent {
  readonly key: string
  readonly task: TaskId
  /** Plain outputs by name. */
  readonly outputs: Readonly<Record<string, string>>
}

/** What is known to be applied of a deployment. */
export type Applied = ReadonlyMap<ActionId, AppliedContent>

/**
 * Characters of commands that one verifying action may have. An order must fit into a message of 16 MiB; a character takes up to 3 bytes, and the values of
 * references are longer than their names. Twice as much would come near that limit.
 */
const maxVerificationSize = 2 * 1024 * 1024
/**
 * How many verifying actions a node has, when there is much to ask. An agent does a few at once, because most of the time that a service takes to say how it is, the next one could be asked;
 * there are more than that, so that who is done with theirs takes another.
 */
const maxLooks = 16
/** Checks that ask somebody (a program, a service, an API) before a node gets one more verifying action. Those of files, packages and units take no time. */
const asksPerLook = 6
/** What a check counts for, as one of these; others for nothing. One of an `openstack` command is several requests. */
const asksOf: Partial<Record<Command['kind'], number>> = { run: 1, probe: 1, openstack: 3 }
/** Longest that a verifying action may take: checks take milliseconds, so their commands' own limits (ten minutes each) would add up to hours of waiting for a node that hangs. */
const maxVerificationMs = 900_000

/**
 * The actions, given in graph order, with those marked that are as they were applied, and the verifying actions before which nothing must happen. An action that names
 * an output of one that runs again runs again too: its commands read the same and mean something else. `isTrusting`: nothing is verified.
 */
export function markUnchanged(actions: readonly Action[], contents: ReadonlyMap<ActionId, Content>, applied: Applied, isTrusting: boolean): Action[] {
  const unchanged = new Set<ActionId>()
  const verifier = new Verifier()
  const marked = actions.map((action): Action => {
    const before = applied.get(action.id)
    const content = contents.get(action.id)!
    if (action.isDeparture === true || before?.key !== action.key || !content.uses.every((id) => unchanged.has(id))) return action
    unchanged.add(action.id)
    const check = isTrusting ? null : verifier.add(action, content.size)
    return { ...action, after: check === null ? action.after : [...action.after, check].sort(), unchanged: { since: before.task, outputs: before.outputs, check } }
  })
  return [...verifier.build(), ...marked]
}

interface OpenVerification {
  readonly id: ActionId
  readonly name: string
  readonly node: NodeId
  readonly commands: Command[]
  readonly verifies: Verification[]
  readonly keys: string[]
  size: number
  /** Commands that ask somebody. */
  asks: number
}

/**
 * The gates, of which those with an approval come after the looks at what comes right after them too: whether there is anything to approve is known then. Those behind preflights do not
 * wait for the ones that are unchanged: a node that is away now, and could be what it is to be before, keeps no other from beginning. `actions`: as marked.
 */
export function markGates(gates: readonly Gate[], actions: readonly Action[]): Gate[] {
  const looks = new Map<ActionId, Set<ActionId>>(gates.filter((gate) => gate.approve).map((gate) => [gate.id, new Set(gate.after)]))
  const passed = new Set<ActionId>()
  for (const { id, after, unchanged, isPreflight } of actions) {
    if (unchanged === null) continue
    if (isPreflight) passed.add(id)
    if (unchanged.check !== null) for (const before of after) looks.get(before)?.add(unchanged.check)
  }
  return gates.map((gate) => {
    if (isPreflightGate(gate)) return { ...gate, after: gate.after.filter((id) => !passed.has(id)) }
    return gate.approve ? { ...gate, after: [...looks.get(gate.id)!].sort() } : gate
  })
}

/** Collects what is to be verified: one action for each node, and more where there is much to ask, or one would be too large. */
class Verifier {
  readonly #byNode = new Map<NodeId, OpenVerification[]>()

  /** The action that verifies this one; null when nothing of it can be checked. */
  add(action: Action, size: number): ActionId | null {
    const commands = action.commands.filter(isCheckable).map((command) => toCheck(action.id, command))
    if (commands.length === 0) return null
    const asks = commands.reduce((sum, { kind }) => sum + (asksOf[kind] ?? 0), 0)
    const verification = this.#find(action.node, size, asks)
    verification.commands.push(...commands)
    verification.verifies.push({ action: action.id, commands: commands.length })
    verification.keys.push(action.key)
    verification.size += size
    verification.asks += asks
    return verification.id
  }

  /** The one with the least to ask that has room; a new one when all of them have enough. */
  #find(node: NodeId, size: number, asks: number): OpenVerification {
    const list = this.#byNode.get(node) ?? []
    this.#byNode.set(node, list)
    const roomy = list.filter((each) => each.size + size <= maxVerificationSize)
    const best = roomy.reduce<OpenVerification | undefined>((least, each) => (least === undefined || each.asks < least.asks ? each : least), undefined)
    if (best !== undefined && (asks === 0 || best.asks < asksPerLook || list.length >= maxLooks)) return best
    const name = list.length === 0 ? 'verify' : `verify-${list.length + 1}`
    const verification = { id: actionIdOf(reservedComponent, name, node), name, node, commands: [], verifies: [], keys: [], size: 0, asks: 0 }
    list.push(verification)
    return verification
  }

  /** Their keys are made of those of what they verify, which cover the same commands. */
  build(): Action[] {
    return [...this.#byNode.values()].flat().map(({ id, name, node, commands, verifies, keys }): Action => ({
      id, component: reservedComponent, name, node, group: '', mode: 'check', after: [], commands,
      timeoutMs: Math.min(maxVerificationMs, commands.reduce((sum, command) => sum + command.timeoutMs, betweenCommandsMs)),
      limitMs: null, retry: { attempts: 1, backoffMs: 0 }, key: digestOf({ keys, verifies }), unchanged: null, verifies,
    }))
  }
}

/** Whether looking can tell that the effect is there. What had to hold before it was brought about tells nothing of that. A program that restarts its node is not asked either: what it leaves behind is what others check. */
function isCheckable(command: Command): boolean {
  if (command.kind === 'note') return false
  if (command.kind === 'probe') return command.spec.prerequisite !== true
  if (command.kind !== 'run') return true
  const { creates, unless, verify, uncheckable, reboots } = command.spec
  return uncheckable !== true && reboots !== true && (creates !== undefined || unless !== undefined || verify !== undefined)
}

/** The command for a look. Its outputs are those of then, so they are not read again: a secret one would travel for nothing. */
function toCheck(action: ActionId, command: Command): Command {
  const name = `${action}: ${command.name}`
  if (command.kind !== 'run') return { ...command, name }
  const { outputs: _outputs, ...spec } = command.spec
  return { ...command, name, spec }
}
