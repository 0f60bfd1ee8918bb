/**
 * This engine's row among the engines, and what is known of the others. Owns the renewing of the row. Invariants: (1) an engine that finds another process under its name
 * stops, it does not fight for it; (2) what is known of others is at most one renewal old while the store answers.
 */
import { type Clock, LichenError } from '@lichen/core'
import type { EngineIdentity, EngineRecord, Store } from '@lichen/store'
import type { EngineLog } from './engine-log.js'

export interface EngineRegistry {
  /** `host:port` of the gateways that run, this engine's first. */
  gateways(): readonly string[]
  /** The gateway is open: others are told. @throws ENGINE_NAME_TAKEN, STORE_UNAVAILABLE */
  announceGateway(gateway: string): Promise<void>
  stop(): Promise<void>
}

export interface EngineRegistryParts {
  readonly engine: EngineIdentity
  /** The caller has proved that an earlier process of this name is dead. */
  readonly isSuccessor: boolean
  readonly store: Pick<Store, 'engines'>
  readonly ttlMs: number
  readonly clock: Clock
  readonly log: EngineLog
  /** Names of the engines that run, after each renewal. */
  readonly alive: (names: ReadonlySet<string>) => void
  /** `gateways()` gives another list than before. */
  readonly gatewaysChanged: () => void
  /** Another process has the name. */
  readonly replaced: (error: LichenError) => void
}

/** Registers, and renews until it is stopped. @throws ENGINE_NAME_TAKEN, STORE_UNAVAILABLE */
export async function startEngineRegistry({ engine, isSuccessor, store, ttlMs, clock, log, alive, gatewaysChanged, replaced }: EngineRegistryParts): Promise<EngineRegistry> {
  const startedAt = clock.now()
  // Empty until it is open, and for an engine that has none.
  let gateway = ''
  const row = () => ({ ...engine, gateway, startedAt, until: clock.now() + ttlMs })
  if ((await store.engines.registerEngine(row(), clock.now(), isSuccessor)) === 'taken') throw takenError(engine.name)
  let others: readonly string[] = []
  const renewals = new Map<string, { readonly instance: string; readonly until: number; readonly at: number }>()
  let renewing: Promise<void> | undefined

  async function renew(): Promise<void> {
    if (!(await store.engines.renewEngine(engine, clock.now() + ttlMs))) {
      // The row may have been deleted after a day without the store; another instance has it otherwise.
      if ((await store.engines.registerEngine(row(), clock.now(), false)) === 'taken') return replaced(takenError(engine.name))
    }
    await look()
  }

  /** Its row was renewed within the time, by this engine's own clock: those of other machines may say anything. A row that is seen for the first time is taken at its word. */
  function isRunning({ name, instance, until }: EngineRecord): boolean {
    const known = renewals.get(name)
    if (known?.instance === instance && known.until === until) return clock.elapsed() - known.at < ttlMs
    const isFirst = known?.instance !== instance
    renewals.set(name, { instance, until, at: clock.elapsed() - (isFirst && until <= clock.now() ? ttlMs : 0) })
    return !isFirst || until > clock.now()
  }

  async function look(): Promise<void> {
    const running = (await store.engines.listEngines(clock.now())).filter(isRunning)
    const found = running.filter((one) => one.name !== engine.name && one.gateway !== '').map((one) => one.gateway)
    const isChanged = found.join(' ') !== others.join(' ')
    others = found
    if (isChanged) gatewaysChanged()
    alive(new Set([engine.name, ...running.map((one) => one.name)]))
  }

  await look()
  const timer = clock.every(ttlMs / 3, () => {
    renewing ??= renew()
      .catch((error: unknown) => log.warn({ err: error }, 'the row of this engine could not be renewed; trying again'))
      .finally(() => (renewing = undefined))
  })
  return {
    async announceGateway(opened) {
      gateway = opened
      if ((await store.engines.registerEngine(row(), clock.now(), false)) === 'taken') throw takenError(engine.name)
    },
    gateways: () => (gateway === '' ? others : [gateway, ...others]),
    async stop() {
      timer.cancel()
      await renewing
      await store.engines.removeEngine(engine).catch((error: unknown) => log.warn({ err: error }, 'the row of this engine could not be taken away; it will expire'))
    },
  }
}

const takenError = (name: string): LichenError => new LichenError('ENGINE_NAME_TAKEN', `another engine named ${name} runs on this store; two of one name would take each other's tasks: give each a data directory of its own, or a name (LICHEN_ENGINE_NAME)`)
