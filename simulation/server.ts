/**
 * A server that clients call over the network: the database, the broker. Owns whether it is up. A call that is under way when it goes down, or whose way back is cut, fails
 * although what it asked for may have been done: nobody can tell.
 */
import type { LichenError } from '@lichen/core'
import type { Life } from './machine.js'
import { Machine } from './machine.js'
import type { Network } from './network.js'
import type { Random } from './random.js'
import type { Scheduler } from './scheduler.js'

// How long a client waits for an answer before it gives the call up.
const patienceMs = 8_000

export interface ServerParts {
  readonly name: string
  readonly scheduler: Scheduler
  readonly network: Network
  readonly random: Random
  /** Time of a call at the server, ms. */
  readonly workMs: number
  readonly unavailable: (what: string) => LichenError
}

/** See the file header. */
export class Server {
  readonly machine: Machine
  readonly #parts: ServerParts
  /** Grows each time it goes down: calls and connections of before are lost. */
  generation = 1
  isUp = true
  /** How much slower than usual it works. */
  slowness = 1
  readonly #downs: (() => void)[] = []

  constructor(parts: ServerParts) {
    this.#parts = parts
    this.machine = new Machine(parts.name)
  }

  /** Calls back each time the server goes down. */
  onDown(callback: () => void): void {
    this.#downs.push(callback)
  }

  goDown(): void {
    if (!this.isUp) return
    this.isUp = false
    this.generation += 1
    for (const callback of this.#downs) callback()
  }

  comeUp(): void {
    this.isUp = true
  }

  /** Runs `body` at the server and answers what it gives or throws. Never settles when `life` ends first. */
  call<T>(life: Life, what: string, body: () => T): Promise<T> {
    const { scheduler, network, random, workMs, unavailable } = this.#parts
    return new Promise<T>((resolve, reject) => {
      if (!life.isAlive) return
      let isOver = false
      const settle = (settled: () => void): void => {
        if (isOver) return
        isOver = true
        patience.cancel()
        settled()
      }
      const fail = (): void => settle(() => reject(unavailable(what)))
      const patience = scheduler.at(scheduler.now + patienceMs, life, `${what} given up`, fail)
      const { generation } = this
      const answer = (label: string, settled: () => void): void => network.send(this.machine, life.machine, label, life, () => settle(settled))
      // The way there and the work are one wait: only the moment at which it is done can be told from outside.
      network.send(life.machine, this.machine, what, undefined, () => {
        if (!this.isUp) return answer(`${what} refused`, () => reject(unavailable(what)))
        // Down before it came to it: whether it was done is for the client to find out. Here it was not.
        if (this.generation !== generation) return answer(`${what} broken`, () => reject(unavailable(what)))
        let outcome: () => void
        try {
          const value = body()
          outcome = () => resolve(value)
        } catch (error) {
          outcome = () => reject(error as Error)
        }
        answer(`${what} answered`, () => (this.generation === generation ? outcome() : reject(unavailable(what))))
      }, random.delay(workMs) * this.slowness)
    })
  }
}
