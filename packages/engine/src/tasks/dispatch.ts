/** Orders and cancels as they go to the nodes. */
import type { Action, TaskId } from '@lichen/core'
import { buildSignedCancel, commandsDigest, makeSalt, type Order, OrderMode, type OrderSigner, type SignedCancel } from '@lichen/protocol'
import type { ResolvedCommands } from './references.js'

/** One attempt of one action. Times in ms since the epoch. */
export interface AttemptToSend {
  readonly task: TaskId
  /** `project/deployment`. */
  readonly deployment: string
  readonly action: Action
  readonly attempt: number
  readonly timeoutMs: number
  readonly epoch: number
  readonly expiresAt: number
}

/** The order for this attempt. */
export const buildAttemptOrder = ({ task, deployment, action, attempt, timeoutMs, epoch, expiresAt }: AttemptToSend, commands: ResolvedCommands): Order => ({
  key: { taskId: task, actionId: action.id, attempt },
  nodeId: action.node,
  deployment,
  epoch,
  expiresAt,
  timeoutMs,
  mode: action.mode === 'do' ? OrderMode.DO : OrderMode.CHECK,
  commands: commands.bytes,
  commandsDigest: commandsDigest(commands.bytes),
  secrets: [...commands.secrets],
  salt: makeSalt(),
})

/** The signed cancel of a live attempt. */
export const buildCancelMessage = (task: TaskId, action: Action, attempt: number, epoch: number, reason: string, signer: OrderSigner): SignedCancel =>
  buildSignedCancel({ key: { taskId: task, actionId: action.id, attempt }, nodeId: action.node, epoch, reason }, signer)
