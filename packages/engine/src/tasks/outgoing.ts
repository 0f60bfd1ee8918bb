/**
 * What one task sends to its nodes: orders and cancels. Owns the memory of which stream each of them went out on last.
 * Invariants: (1) on one stream an order, or a cancel, goes out once; (2) an order that is out by the record goes out again on a new stream, unless the
 * node said there that it runs the attempt, or its result is here already: the node's journal makes the second one harmless.
 */
import { type Action, expiryOf, type NodeId, type TaskId, type TaskLimits, type TrackedTask } from '@lichen/core'
import { attemptKeyText, buildSignedOrders, type OrderSigner, type SignedOrder } from '@lichen/protocol'
import type { EngineLog } from '../engine-log.js'
import type { NodeStream } from '../gateway/node-stream.js'
import type { EngineMetrics } from '../metrics.js'
import { buildAttemptOrder, buildCancelMessage } from './dispatch.js'
import type { ResolvedCommands, resolveCommands } from './references.js'

export interface OutgoingParts {
  readonly task: TaskId
  readonly epoch: number
  readonly signer: OrderSigner
  readonly findStream: (node: NodeId) => NodeStream | undefined
  readonly limits: TaskLimits
  readonly log: EngineLog
  readonly metrics: EngineMetrics
}

/** An order that is intended by the record. `expiresAt`: ms since the epoch. */
export interface IntendedOrder {
  readonly action: Action
  readonly attempt: number
  readonly timeoutMs: number
  readonly expiresAt: number
  readonly commands: ResolvedCommands
}

export interface Outgoing {
  /** Sends those of the orders whose nodes have a stream. */
  send(view: TrackedTask, orders: readonly IntendedOrder[]): void
  /** Sends the orders that are out by the record and did not go out on the present stream of their node. `answered`: attempts whose result is here. */
  sendMissing(view: TrackedTask, answered: ReadonlySet<string>, resolve: (action: Action) => ReturnType<typeof resolveCommands>): void
  cancel(action: Action, attempt: number, reason: string): void
  /** The attempt has ended. */
  forget(actionId: string, attempt: number): void
}

/** Nothing has been sent yet. */
export function buildOutgoing({ task, epoch, signer, findStream, limits, log, metrics }: OutgoingParts): Outgoing {
  const ordered = new Map<string, string>()
  const cancelled = new Map<string, string>()
  const keyOf = (actionId: string, attempt: number): string => attemptKeyText({ taskId: task, actionId, attempt })

  function send({ graph }: TrackedTask, orders: readonly IntendedOrder[]): void {
    const deployment = graph === null ? '' : `${graph.project}/${graph.deployment}`
    const reachable = orders.flatMap((order) => {
      const stream = findStream(order.action.node)
      return stream === undefined ? [] : [{ order, stream }]
    })
    // Signed together: that is what an order costs most.
    const signed = buildSignedOrders(reachable.map(({ order: { commands, ...attempt } }) => buildAttemptOrder({ task, deployment, epoch, ...attempt }, commands)), signer)
    reachable.forEach(({ order: { action, attempt }, stream }, index) => {
      if (!stream.send({ $case: 'order', value: signed[index] as SignedOrder })) return
      ordered.set(keyOf(action.id, attempt), stream.id)
      metrics.ordersSent.inc()
      log.debug({ taskId: task, actionId: action.id, nodeId: action.node, attempt }, 'order sent')
    })
  }

  return {
    send,
    sendMissing(view, answered, resolve) {
      // While cancelling, the cancel alone goes out: a node that never saw the order answers it as cancelled.
      if (view.state !== 'running' && view.state !== 'paused') return
      const missing: IntendedOrder[] = []
      for (const { action, view: state } of view.index.deadlines.values()) {
        const key = keyOf(action.id, state.attempt)
        const stream = findStream(action.node)
        if (stream === undefined || ordered.get(key) === stream.id || stream.running.has(key) || answered.has(key)) continue
        const commands = resolve(action)
        const timeoutMs = state.timeoutMs ?? action.timeoutMs
        if (commands.ok) missing.push({ action, attempt: state.attempt, timeoutMs, expiresAt: expiryOf(state.deadline ?? 0, timeoutMs, limits), commands: commands.value })
        else log.error({ taskId: task, actionId: action.id, reason: commands.failure.message }, 'an order cannot be sent again: a value is gone')
      }
      send(view, missing)
    },
    cancel(action, attempt, reason) {
      const stream = findStream(action.node)
      const key = keyOf(action.id, attempt)
      if (stream === undefined || cancelled.get(key) === stream.id) return
      if (stream.send({ $case: 'cancel', value: buildCancelMessage(task, action, attempt, epoch, reason, signer) })) cancelled.set(key, stream.id)
    },
    forget(actionId, attempt) {
      const key = keyOf(actionId, attempt)
      ordered.delete(key)
      cancelled.delete(key)
    },
  }
}
