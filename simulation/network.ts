/**
 * The network between machines. Owns who can reach whom, and what is on its way.
 *
 * 1. What is sent while two machines are cut off from each other is not lost: it is sent again, as TCP does, and arrives when they see each other again, unless the
 *    connection was given up before.
 * 2. Packets of one connection arrive in the order sent; those of different connections do not.
 */
import type { Machine } from './machine.js'
import type { Random } from './random.js'
import type { Owner, Scheduler } from './scheduler.js'

/** One direction of a connection. */
export interface Path {
  /** Calls `arrive` at the other end, later, after everything sent before. */
  send(label: string, arrive: () => void): void
  /** Nothing arrives any more. */
  cut(): void
}

const pairOf = (left: Machine, right: Machine): string => (left.name < right.name ? `${left.name} ${right.name}` : `${right.name} ${left.name}`)

/** See the file header. */
export class Network {
  readonly #scheduler: Scheduler
  readonly #random: Random
  readonly #cuts = new Map<string, number>()
  readonly #waiting = new Map<string, (() => void)[]>()
  /** Typical time from machine to machine, ms. */
  typicalMs = 0.4

  constructor(scheduler: Scheduler, random: Random) {
    this.#scheduler = scheduler
    this.#random = random
  }

  /** True while packets pass between them. */
  isOpen(left: Machine, right: Machine): boolean {
    return left === right || !this.#cuts.has(pairOf(left, right))
  }

  /** Cuts the machines off from each other; may be done more than once, each `heal` takes one cut away. */
  cut(left: Machine, right: Machine): void {
    const pair = pairOf(left, right)
    this.#cuts.set(pair, (this.#cuts.get(pair) ?? 0) + 1)
  }

  heal(left: Machine, right: Machine): void {
    const pair = pairOf(left, right)
    const count = (this.#cuts.get(pair) ?? 0) - 1
    if (count > 0) return void this.#cuts.set(pair, count)
    this.#cuts.delete(pair)
    for (const resume of this.#waiting.get(pair)?.splice(0) ?? []) resume()
  }

  /** Calls `arrive` at machine `to`, later, and `moreMs` after that; packets sent this way overtake each other. */
  send(from: Machine, to: Machine, label: string, owner: Owner | undefined, arrive: () => void, moreMs = 0): void {
    this.#fly(from, to, label, owner, this.#scheduler.now + this.#delay(from, to) + moreMs, arrive)
  }

  /** One direction of a new connection, to a process that reads it. `slowness`: how many times longer than usual its packets take. */
  openPath(from: Machine, to: Machine, reader: Owner, slowness = 1): Path {
    const queue: (() => void)[] = []
    let isCut = false
    let isStalled = false
    let due = 0
    let lastAt = 0

    const deliver = (): void => {
      if (isCut) return
      due += 1
      if (isStalled) return
      if (this.isOpen(from, to)) {
        due -= 1
        return queue.shift()?.()
      }
      isStalled = true
      this.#wait(from, to, () => this.#scheduler.at(this.#resentAt(), reader, 'packets again', goOn))
    }
    const goOn = (): void => {
      isStalled = false
      const late = due
      due = 0
      for (let count = 0; count < late; count++) this.#scheduler.at(this.#scheduler.now, reader, 'packet', deliver)
    }
    return {
      send: (label, arrive) => {
        if (isCut) return
        queue.push(arrive)
        lastAt = Math.max(lastAt, this.#scheduler.now + this.#delay(from, to) * slowness)
        this.#scheduler.at(lastAt, reader, label, deliver)
      },
      cut() {
        isCut = true
        queue.length = 0
      },
    }
  }

  #fly(from: Machine, to: Machine, label: string, owner: Owner | undefined, at: number, arrive: () => void): void {
    this.#scheduler.at(
      at, owner, label,
      () => {
        if (this.isOpen(from, to)) arrive()
        else this.#wait(from, to, () => this.#fly(from, to, label, owner, this.#resentAt(), arrive))
      },
      this.#random.next(),
    )
  }

  #wait(from: Machine, to: Machine, resume: () => void): void {
    const pair = pairOf(from, to)
    const waiting = this.#waiting.get(pair)
    if (waiting === undefined) this.#waiting.set(pair, [resume])
    else waiting.push(resume)
  }

  // What was lost is noticed late, and sent again.
  #resentAt(): number {
    return this.#scheduler.now + this.#random.between(1, 200)
  }

  #delay(from: Machine, to: Machine): number {
    return from === to ? 0.02 : this.#random.delay(this.typicalMs)
  }
}
