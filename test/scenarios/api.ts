/** The REST API over the store and the broker of a system: what people ask of its tasks. */
import { bootstrapAdminToken, buildApi, startAnnouncer } from '@lichen/api'
import { type Catalog, clockOf, type ErrorCode } from '@lichen/core'
import { openSecret } from '@lichen/engine'
import { Registry } from 'prom-client'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import { type System, testCatalog } from './system.js'

/** A task as `GET /v1/tasks/{id}` tells it, as far as scenarios look. */
export interface TaskBody {
  readonly id: string
  readonly state: string
  readonly outcome: string | null
  readonly reason: string
  readonly counts: Readonly<Record<string, number>>
  readonly waitingFor: { readonly reason: string; readonly owner: string; readonly until: number | null } | null
  readonly engine: string | null
  readonly waiting: readonly { readonly action: string; readonly reason: string; readonly owner: string }[]
  readonly gates: readonly { readonly id: string; readonly state: string; readonly meaning: string; readonly approvedBy: string | null }[]
  readonly unknown: readonly { readonly action: string; readonly reason: string; readonly answers: readonly string[] }[]
}

export interface ScenarioApi {
  submit(plan: object): Promise<string>
  /** Runs an operation on a deployment of the default project. */
  operate(deployment: string, body: object): Promise<string>
  read(task: string): Promise<TaskBody>
  /** Any GET under /v1, with its headers. */
  get(path: string): Promise<{ readonly code: number; readonly headers: Readonly<Record<string, unknown>>; readonly text: string }>
  /** Asks something of the task that must be accepted: `pause`, `approve`, … */
  ask(task: string, verb: string, body?: object): Promise<TaskBody>
  /** Asks something that must be refused, with this code; gives back the words. */
  refused(task: string, verb: string, body: object, code: ErrorCode): Promise<string>
  /** Waits until the task is as wanted, and gives it back. */
  reached(task: string, what: string, isReached: (task: TaskBody) => boolean): Promise<TaskBody>
}

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

/** An API beside the engine of the system; it closes with the test. */
export async function openApi(t: Test, { store, broker, sealer }: System, catalog: Catalog = testCatalog): Promise<ScenarioApi> {
  const announcer = startAnnouncer({ store, broker, clock: clockOf(globalThis), log: silent })
  const app = buildApi({ store, broker, announcer, catalog, unseal: (secret) => openSecret(sealer, secret), caDigest: 'c'.repeat(64), gatewayAddress: '127.0.0.1:0', now: Date.now, log: silent, registry: new Registry(), version: 'test' })
  const authorization = `Bearer ${await bootstrapAdminToken(store, { now: Date.now })}`
  // Runs before the teardown of the system, which closes the store.
  t.teardown(async () => {
    await app.close()
    await announcer.stop()
  })
  const call = (method: 'GET' | 'POST', url: string, body?: object) => app.inject({ method, url: `/v1${url}`, headers: { authorization }, ...(body === undefined ? {} : { payload: body }) })
  const wanted = async (method: 'GET' | 'POST', url: string, body?: object): Promise<TaskBody> => {
    const answer = await call(method, url, body)
    if (answer.statusCode >= 300) throw new Error(`${method} ${url}: ${answer.body}`)
    return answer.json()
  }
  const read = (task: string): Promise<TaskBody> => wanted('GET', `/tasks/${task}`)
  return {
    read,
    async get(path) {
      const { statusCode, headers, body } = await call('GET', path)
      return { code: statusCode, headers, text: body }
    },
    submit: async (plan) => (await wanted('POST', '/tasks', { kind: 'apply', plan })).id,
    operate: async (deployment, body) => (await wanted('POST', `/deployments/default/${deployment}/operations`, body)).id,
    ask: (task, verb, body = {}) => wanted('POST', `/tasks/${task}/${verb}`, body),
    async refused(task, verb, body, code) {
      const answer = (await call('POST', `/tasks/${task}/${verb}`, body)).json() as { code: string; detail: string }
      t.equal(answer.code, code, `${verb}: ${answer.detail}`)
      return answer.detail
    },
    reached: (task, what, isReached) => eventually(t, what, async () => {
      const now = await read(task)
      if (isReached(now)) return now
      throw new Error(JSON.stringify(now))
    }, { timeoutMs: 20_000 }),
  }
}
