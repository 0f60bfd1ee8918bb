/**
 * Decides whether an order or a cancel is from this deployment's engine, for this node, and still in force. What is not is refused with a code and
 * nothing runs; there is no switch to turn this off.
 *
 * The bytes are verified as they came, before anything in them is believed. A refusal still names the attempt, read from the unverified bytes: it is
 * only echoed.
 */
import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import type { Command } from '@lichen/core'
import { type AttemptKey, attemptKeyText, type Cancel, cancelSigningBytes, commandsDigest, decodeCancel, decodeCommands, decodeOrder, isInBatch, type Order, OrderMode, ordersSigningBytes, type SignedCancel, type SignedOrder } from '@lichen/protocol'
import type { Identity } from '../identity/identity.js'

/** Why nothing was run. */
export interface Refusal {
  readonly key: AttemptKey | undefined
  readonly code: 'ORDER_UNSIGNED' | 'ORDER_STALE_EPOCH' | 'ORDER_EXPIRED' | 'ORDER_MALFORMED' | 'ORDER_NOT_JOURNALED'
  readonly message: string
}

/** An order whose signature, node, epoch and digest hold. */
export type VerifiedOrder = Order & { readonly key: AttemptKey }
export type Verified<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refusal: Refusal }

/** The keys that orders may be signed with. */
export interface SigningKeys {
  /** Whether the signature fits; undefined when the key is not known. */
  verify(keyId: string, bytes: Buffer, signature: Buffer): boolean | undefined
}

/** A signature that was verified. */
interface Seen {
  readonly keyId: string
  readonly bytes: Buffer
  readonly signature: Buffer
  readonly isValid: boolean
}

/** SubjectPublicKeyInfo of Ed25519 without the 32 bytes of the key (RFC 8410, section 4). */
const ed25519Prefix = Buffer.from('302a300506032b6570032100', 'hex')

/** The keys, ready to verify with (Ed25519). A key that is not 32 bytes is left out. */
export function readSigningKeys(keys: Identity['signingKeys']): SigningKeys {
  const known = new Map<string, KeyObject>()
  for (const { id, publicKey } of keys) {
    const raw = Buffer.from(publicKey, 'base64')
    if (raw.length === 32) known.set(id, createPublicKey({ key: Buffer.concat([ed25519Prefix, raw]), format: 'der', type: 'spki' }))
  }
  // Orders of one batch follow each other: one verification, which costs more than all else about a small order, does for all of them.
  let last: Seen | undefined
  return {
    verify(keyId, bytes, signature) {
      const key = known.get(keyId)
      if (key === undefined) return undefined
      if (last === undefined || last.keyId !== keyId || !last.signature.equals(signature) || !last.bytes.equals(bytes)) last = { keyId, bytes, signature, isValid: verify(null, bytes, key, signature) }
      return last.isValid
    },
  }
}

/** What an order is compared with. */
export interface Expectation {
  readonly nodeId: string
  readonly keys: SigningKeys
  readonly highestEpoch: (taskId: string) => number
}

/** The order, if it was signed for this node by an engine whose epoch is not superseded. Expiry is another question: see `checkOrder`. */
export function verifyOrder(signed: SignedOrder, expectation: Expectation): Verified<VerifiedOrder> {
  return verifyMessage('order', signed.order, signed, isInBatch(signed.order, signed.batch) ? ordersSigningBytes(signed.batch) : undefined, decodeOrder, expectation)
}

/** The cancel, if it was signed for this node by an engine whose epoch is not superseded. */
export function verifyCancel(signed: SignedCancel, expectation: Expectation): Verified<Cancel & { readonly key: AttemptKey }> {
  return verifyMessage('cancel', signed.cancel, signed, cancelSigningBytes(signed.cancel), decodeCancel, expectation)
}

/** The commands of a new order, if it has not expired and they are what was signed and can be read. */
export function checkOrder(order: VerifiedOrder, now: number): Verified<Command[]> {
  const { key } = order
  if (order.expiresAt < now) {
    const message = `the order expired at ${new Date(order.expiresAt).toISOString()}; by the clock of this node it is ${new Date(now).toISOString()}`
    return { ok: false, refusal: { key, code: 'ORDER_EXPIRED', message } }
  }
  if (order.mode !== OrderMode.DO && order.mode !== OrderMode.CHECK) return malformed(key, 'the order has no mode')
  if (order.timeoutMs < 1) return malformed(key, 'the order has no time limit')
  if (!commandsDigest(order.commands).equals(order.commandsDigest)) return malformed(key, 'the commands have another digest than the order says')
  const commands = decodeCommands(order.commands)
  if (commands.ok) return commands
  return malformed(key, commands.problems.map(({ path, message }) => `commands${path}: ${message}`).join('; '))
}

function verifyMessage<T extends { key: AttemptKey | undefined; nodeId: string; epoch: number }>(
  what: string,
  bytes: Buffer,
  { keyId, signature }: { keyId: string; signature: Buffer },
  signed: Buffer | undefined,
  decode: (bytes: Buffer) => T,
  { nodeId, keys, highestEpoch }: Expectation,
): Verified<T & { readonly key: AttemptKey }> {
  let message: T
  try {
    message = decode(bytes)
  } catch (error) {
    return malformed(undefined, `the ${what} could not be read: ${(error as Error).message}`)
  }
  const { key } = message
  // Without what it should cover, no signature fits.
  const isValid = keys.verify(keyId, signed ?? Buffer.alloc(0), signature) && signed !== undefined
  if (isValid === undefined) return unsigned(key, `the ${what} names the signing key ${JSON.stringify(keyId)}, which this node does not know`)
  if (!isValid) return unsigned(key, `the signature of the ${what} does not fit its bytes`)
  if (message.nodeId !== nodeId) return unsigned(key, `the ${what} was signed for node ${JSON.stringify(message.nodeId)}; this is ${nodeId}`)
  if (!key?.taskId || !key.actionId || key.attempt < 1) return malformed(key, `the ${what} does not say which attempt it is`)
  const highest = highestEpoch(key.taskId)
  if (message.epoch < highest) {
    return { ok: false, refusal: { key, code: 'ORDER_STALE_EPOCH', message: `the ${what} of ${attemptKeyText(key)} has epoch ${message.epoch}; the node has seen ${highest}` } }
  }
  return { ok: true, value: message as T & { readonly key: AttemptKey } }
}

const unsigned = (key: AttemptKey | undefined, message: string): Verified<never> => ({ ok: false, refusal: { key, code: 'ORDER_UNSIGNED', message } })
const malformed = (key: AttemptKey | undefined, message: string): Verified<never> => ({ ok: false, refusal: { key, code: 'ORDER_MALFORMED', message } })
