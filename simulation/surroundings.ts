/** What every part of a simulated deployment shares. */
import type { Database } from './store/database.js'
import type { Broker } from '@lichen/broker'
import { LichenError } from '@lichen/core'
import type { EngineLog } from '@lichen/engine'
import type { Store } from '@lichen/store'
import { BrokerServer } from './broker/broker.js'
import { Life, type Machine } from './machine.js'
import { Network } from './network.js'
import { buildRandom, type Random } from './random.js'
import { Scheduler, type SchedulerHooks } from './scheduler.js'
import { Server } from './server.js'
import { openStoreClient } from './store/client.js'
import type { Transcript } from './transcript.js'

/** Fields of a log line that a transcript shows. */
const shown = ['taskId', 'actionId', 'nodeId', 'attempt', 'outcome', 'epoch', 'code', 'reason', 'error', 'engine'] as const

// Errors that faults of the simulation bring about, as they should.
const expected = ['another process has the name of this engine']

/** See the file header. */
export class Surroundings {
  readonly seed: number
  readonly scheduler: Scheduler
  readonly network: Network
  readonly transcript: Transcript
  readonly database: Database
  readonly storeServer: Server
  readonly broker: BrokerServer
  readonly timers: Random
  /** Defects that programs reported in their logs. */
  readonly defects: string[] = []

  constructor(seed: number, transcript: Transcript, hooks: SchedulerHooks, makeDatabase: () => Database) {
    this.seed = seed
    this.transcript = transcript
    this.scheduler = new Scheduler(hooks)
    this.network = new Network(this.scheduler, buildRandom(seed, 'network'))
    this.timers = buildRandom(seed, 'timers')
    this.database = makeDatabase()
    this.storeServer = new Server({
      name: 'store', scheduler: this.scheduler, network: this.network, random: buildRandom(seed, 'store'), workMs: 1,
      unavailable: (what) => new LichenError('STORE_UNAVAILABLE', `${what}: the database does not answer`, { retryAfterS: 1 }),
    })
    this.broker = new BrokerServer(this.scheduler, this.network, buildRandom(seed, 'broker'))
  }

  /** A new process. */
  begin(name: string, machine: Machine): Life {
    return new Life(name, machine, this.scheduler, this.timers)
  }

  openStore(life: Life): Store {
    return openStoreClient({ database: this.database, call: (what, body) => this.storeServer.call(life, what, body), soon: (callback) => life.clock.soon(callback) })
  }

  openBroker(life: Life): Broker {
    return this.broker.openClient(life)
  }

  /** Tells the transcript. */
  note(who: string, what: string): void {
    this.transcript.line(this.scheduler.now, who, what)
  }

  /** The log of a process. */
  logOf(life: Life): EngineLog {
    const write = (level: string) => (fields: object, message: string): void => {
      if (!life.isAlive) return
      const values = fields as Record<string, unknown>
      const err = values['err']
      const details = shown.flatMap((name) => (values[name] === undefined ? [] : [`${name}=${String(values[name])}`])).join(' ')
      const line = `${level} ${message} ${details}${err instanceof Error ? ` ${err.message}` : ''}`
      this.note(life.name, line)
      // What a full disk brings about is told as an error, and rightly: an operator must act.
      if (level === 'error' && !line.includes('ENOSPC') && !expected.some((one) => message.includes(one))) this.defects.push(`${life.name}: ${line}${err instanceof Error && !(err instanceof LichenError) ? ` ${err.stack ?? ''}` : ''}`)
    }
    return { debug: () => undefined, info: write('info'), warn: write('warn'), error: write('error') }
  }
}
