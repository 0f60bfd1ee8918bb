/**
 * One API replica of a simulated deployment: what `routes/tasks` does with the store, without HTTP around it, and the real announcer. A client's request is one call: it
 * may fail before or after it was recorded, and is then asked again.
 */
import { type Announcer, startAnnouncer } from '@lichen/api'
import type { Broker } from '@lichen/broker'
import { answerRequest, applyEvent, buildTaskView, LichenError, summarizeTask, type TaskId, type TaskRequest } from '@lichen/core'
import type { NewTask, Store } from '@lichen/store'
import { type Life, Machine } from './machine.js'
import type { Surroundings } from './surroundings.js'

const patienceMs = 10_000

/** The sabotage of the tests: tasks that are created without a bell, and nobody who sweeps. */
export type OutboxWeather = 'kept' | 'not rung'

/** See the file header. */
export class ApiProcess {
  readonly name: string
  readonly machine: Machine
  life: Life | undefined
  #store: Store | undefined
  #announcer: Announcer | undefined
  readonly #around: Surroundings
  readonly #wrapBroker: (broker: Broker) => Broker

  constructor(name: string, around: Surroundings, wrapBroker: (broker: Broker) => Broker = (broker) => broker) {
    this.name = name
    this.machine = new Machine(name)
    this.#around = around
    this.#wrapBroker = wrapBroker
  }

  start(): void {
    if (this.life?.isAlive) return
    const life = (this.life = this.#around.begin(this.name, this.machine))
    this.#around.note(this.name, 'starts')
    this.#store = this.#around.openStore(life)
    this.#announcer = startAnnouncer({ store: this.#store, broker: this.#wrapBroker(this.#around.openBroker(life)), clock: life.clock, log: this.#around.logOf(life) })
  }

  kill(): void {
    this.life?.kill()
  }

  /** Creates the task: the id that the client is told. */
  submit(client: Life, task: NewTask): Promise<TaskId> {
    return this.#ask(client, `submit ${task.id}`, async (store) => {
      const created = await store.tasks.create(task)
      this.#announcer?.ring()
      return created.id
    })
  }

  /** What a person asks of a task. False when the task does not allow it. */
  request(client: Life, task: TaskId, request: TaskRequest): Promise<boolean> {
    return this.#ask(client, `${request.type} ${task}`, async (store, life) => {
      for (;;) {
        const [row, events] = await Promise.all([store.tasks.read(task), store.tasks.readEvents(task, 0)])
        if (row === undefined) throw new LichenError('REQUEST_NOT_FOUND', `no task ${task}`)
        const view = buildTaskView(events, row.graph)
        const { seq } = view
        const answer = answerRequest(view, request)
        if (!answer.ok) return false
        if (answer.event === null) return true
        const at = life.clock.now()
        const graph = request.type === 'retry' && request.graph ? { graph: request.graph } : {}
        const summary = summarizeTask(applyEvent(view, { seq: seq + 1, at, event: answer.event }, request.type === 'retry' ? (request.graph ?? null) : null))
        const [appended] = await store.tasks.append([{ task, expectedSeq: seq, epoch: null, events: [answer.event], at, summary, announce: true, ...graph }])
        if (appended === 'appended') {
          this.#announcer?.ring()
          return true
        }
      }
    })
  }

  /** Runs `body` in this process for a client over the network. Rejects when the process does not answer, or the store does not. */
  #ask<T>(client: Life, what: string, body: (store: Store, life: Life) => Promise<T>): Promise<T> {
    const { scheduler, network } = this.#around
    const until = scheduler.now + patienceMs
    return new Promise<T>((resolve, reject) => {
      const fail = (error: Error): void => network.send(this.machine, client.machine, `${what} failed`, client, () => answered(() => reject(error)))
      const unreachable = (): LichenError => new LichenError('STORE_UNAVAILABLE', `${what}: ${this.name} does not answer`)
      const patience = scheduler.at(until, client, `${what} given up`, () => reject(unreachable()))
      const answered = (settle: () => void): void => {
        patience.cancel()
        settle()
      }
      network.send(client.machine, this.machine, what, undefined, () => {
        const { life } = this
        const store = this.#store
        // The connection of a client that gave up is closed: what it asked for is not read any more.
        if (scheduler.now >= until) return
        if (!life?.isAlive || store === undefined) return fail(unreachable())
        life.clock.soon(() => {
          body(store, life).then(
            (value) => {
              if (life.isAlive) network.send(this.machine, client.machine, `${what} answered`, client, () => answered(() => resolve(value)))
            },
            (error: unknown) => {
              if (life.isAlive) fail(error as Error)
            },
          )
        })
      })
    })
  }
}
