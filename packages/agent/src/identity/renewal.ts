/** Renews the node's certificate when two thirds of its life are over. Owns the timer; its user keeps the identity. */
import type { Clock, Timer } from '@lichen/core'
import type { Log } from '../log.js'
import { type Identity, renewalTime } from './identity.js'

/** How often the certificate's age is looked at, at most. */
const checkMs = 3_600_000
const retryMs = 60_000

export interface RenewalOptions {
  readonly clock: Clock
  readonly log: Log
  readIdentity(): Identity
  /** Gateways to ask, in this order. */
  listGateways(): readonly string[]
  renew(gateway: string, identity: Identity): Promise<Identity>
  onRenewed(identity: Identity): void
}

/** See the file header. */
export class Renewal {
  readonly #options: RenewalOptions
  #timer: Timer | undefined
  #isStopped = false

  constructor(options: RenewalOptions) {
    this.#options = options
  }

  start(): void {
    this.#plan(0)
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }

  /** `soonestMs`: a clock far ahead of the gateway's finds every certificate due at once, also one that is a moment old. */
  #plan(soonestMs: number): void {
    const { clock, readIdentity } = this.#options
    const leftMs = renewalTime(readIdentity().certificatePem) - clock.now()
    this.#timer = clock.after(Math.min(Math.max(leftMs, soonestMs), checkMs), () => void this.#renewWhenDue())
  }

  async #renewWhenDue(): Promise<void> {
    const { clock, log, readIdentity, onRenewed } = this.#options
    if (renewalTime(readIdentity().certificatePem) > clock.now()) return this.#plan(0)
    const renewed = await this.#renewAny()
    if (this.#isStopped) return
    if (!renewed) {
      this.#timer = clock.after(retryMs, () => void this.#renewWhenDue())
      return
    }
    onRenewed(renewed)
    log.info({ nodeId: renewed.nodeId }, 'the certificate was renewed')
    this.#plan(retryMs)
  }

  async #renewAny(): Promise<Identity | undefined> {
    const { log, readIdentity, listGateways, renew } = this.#options
    for (const gateway of listGateways()) {
      if (this.#isStopped) return undefined
      try {
        return await renew(gateway, readIdentity())
      } catch (error) {
        if (!this.#isStopped) log.error({ nodeId: readIdentity().nodeId, gateway, error: (error as Error).message }, 'the certificate could not be renewed here; trying again')
      }
    }
    return undefined
  }
}
