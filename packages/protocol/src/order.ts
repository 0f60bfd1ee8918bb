/**
 * What is signed, byte for byte, and how orders and cancels are put together. A signature covers a domain text followed by what is signed: the encoded message of a cancel, the
 * digests of all orders that leave together, because a signature costs as much as all else about an order. The domain keeps one from passing as the other. Verifiers check the bytes as received and decode them
 * afterwards: protobuf has no canonical encoding, so a message encoded again may differ from what was signed.
 */
import { hash, randomBytes } from 'node:crypto'
import type { Command } from '@lichen/core'
import { encodeCommands } from './commands.js'
import { type AttemptKey, Cancel, Order, OrderMode, type SignedCancel, type SignedOrder } from './generated/lichen/v1/agent.js'

const ordersDomain = Buffer.from('lichen.orders.v1\n', 'ascii')
const cancelDomain = Buffer.from('lichen.cancel.v1\n', 'ascii')

// Each order carries the digests of its batch: with 16 the signature is cheap, twice as many would make a small order mostly digests.
const batchSize = 16
const digestBytes = 32

/** The bytes that the signature of orders covers. `batch`: digests of the orders, as it stands in SignedOrder. */
export const ordersSigningBytes = (batch: Uint8Array): Buffer => Buffer.concat([ordersDomain, batch])

/** SHA-256 (32 bytes) of an encoded Order. */
export const orderDigest = (orderBytes: Uint8Array): Buffer => hash('sha256', orderBytes, 'buffer')

/** Whether the order is one of this batch. False for a batch that is no whole number of digests. */
export function isInBatch(orderBytes: Uint8Array, batch: Buffer): boolean {
  if (batch.length % digestBytes !== 0) return false
  const digest = orderDigest(orderBytes)
  for (let at = 0; at < batch.length; at += digestBytes) if (digest.equals(batch.subarray(at, at + digestBytes))) return true
  return false
}

/** The bytes that a cancel's signature covers. `cancelBytes`: the encoded Cancel, as it stands in SignedCancel. */
export const cancelSigningBytes = (cancelBytes: Uint8Array): Buffer => Buffer.concat([cancelDomain, cancelBytes])

/** What makes the digest of an order tell nothing: 16 random bytes. */
export const makeSalt = (): Buffer => randomBytes(16)

/** SHA-256 (32 bytes) of encoded commands, as it stands in an order. */
export const commandsDigest = (commands: Uint8Array): Buffer => hash('sha256', commands, 'buffer')

/** Encoded Order. */
export const encodeOrder = (order: Order): Buffer => Buffer.from(Order.encode(order).finish())

/** The order in these bytes. Throws a plain Error when they are no protobuf message of this kind; the caller says what that means. */
export const decodeOrder = (bytes: Uint8Array): Order => Order.decode(bytes)

/** Encoded Cancel. */
export const encodeCancel = (cancel: Cancel): Buffer => Buffer.from(Cancel.encode(cancel).finish())

/** The cancel in these bytes. Throws a plain Error when they are no protobuf message of this kind; the caller says what that means. */
export const decodeCancel = (bytes: Uint8Array): Cancel => Cancel.decode(bytes)

/** What an order is made of, in the words of core. Times in milliseconds; `expiresAt` since the epoch. */
export interface OrderParts {
  readonly key: AttemptKey
  readonly nodeId: string
  /** `project/deployment`. */
  readonly deployment: string
  readonly epoch: number
  readonly expiresAt: number
  readonly timeoutMs: number
  readonly mode: 'do' | 'check'
  /** Resolved: no reference is left in them. */
  readonly commands: readonly Command[]
  /** Values to mask in everything that leaves the node. */
  readonly secrets: readonly string[]
}

/** The key that signs: its id and a function from bytes to an Ed25519 signature (64 bytes). */
export interface OrderSigner {
  readonly keyId: string
  sign(bytes: Buffer): Buffer
}

/** The order with the digest of its commands. */
export function buildOrder(parts: OrderParts): Order {
  const commands = encodeCommands(parts.commands)
  return {
    key: parts.key,
    nodeId: parts.nodeId,
    deployment: parts.deployment,
    epoch: parts.epoch,
    expiresAt: parts.expiresAt,
    timeoutMs: parts.timeoutMs,
    mode: parts.mode === 'do' ? OrderMode.DO : OrderMode.CHECK,
    commands,
    commandsDigest: commandsDigest(commands),
    secrets: [...parts.secrets],
    salt: makeSalt(),
  }
}

/** The orders, encoded and signed, ready to be sent, one for each in the same order; as few signatures as possible. */
export function buildSignedOrders(orders: readonly Order[], signer: OrderSigner): SignedOrder[] {
  const signed: SignedOrder[] = []
  for (let from = 0; from < orders.length; from += batchSize) {
    const all = orders.slice(from, from + batchSize).map(encodeOrder)
    const batch = Buffer.concat(all.map(orderDigest))
    const signature = signer.sign(ordersSigningBytes(batch))
    for (const order of all) signed.push({ order, keyId: signer.keyId, signature, batch })
  }
  return signed
}

/** The cancel, encoded and signed, ready to be sent. */
export function buildSignedCancel(cancel: Cancel, signer: OrderSigner): SignedCancel {
  const bytes = encodeCancel(cancel)
  return { cancel: bytes, keyId: signer.keyId, signature: signer.sign(cancelSigningBytes(bytes)) }
}

/** One text for one attempt, e.g. for a Map. Task ids hold no space. */
export const attemptKeyText = (key: AttemptKey): string => `${key.taskId} ${key.attempt} ${key.actionId}`
