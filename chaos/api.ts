/**
 * The REST API as a client sees it that outlives outages: it tries again what could not be answered, and keeps what it was answered, so that answers can be
 * checked, too.
 */
import { pause } from './patience.js'

export interface Answer {
  readonly code: number
  readonly headers: Headers
  readonly text: string
}

export interface Client {
  /** One try. @throws when there is no answer in time */
  ask(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Answer>
  /** Tries until there is an answer below 500, for `patienceMs` (two minutes). @throws then, and for an answer of 400 and above */
  call<T>(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>, patienceMs?: number): Promise<T>
  /** All items of a list, page by page. */
  list<T>(path: string): Promise<readonly T[]>
  /** Everything of a log or an event list, which answer one JSON document on each line. */
  readLines<T>(path: string): Promise<readonly T[]>
  /** Number of answers by code; `none`: no connection, or none in time. */
  readonly codes: ReadonlyMap<string, number>
  /** Answers that no outage excuses: of 500 and above without a date to come back, in words. */
  readonly wrongAnswers: readonly string[]
}

const answerTimeoutMs = 15_000

/** A client of the API at this origin, with this token. */
export function openClient(origin: string, readToken: () => string): Client {
  const codes = new Map<string, number>()
  const wrongAnswers: string[] = []
  const count = (code: string): void => void codes.set(code, (codes.get(code) ?? 0) + 1)

  async function ask(method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    try {
      const response = await fetch(origin + path, {
        method, signal: AbortSignal.timeout(answerTimeoutMs), redirect: 'error',
        headers: { authorization: `Bearer ${readToken()}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const answer = { code: response.status, headers: response.headers, text: await response.text() }
      count(String(answer.code))
      if (answer.code >= 500 && !(answer.code === 503 && response.headers.has('retry-after'))) wrongAnswers.push(`${method} ${path}: ${answer.code} ${answer.text.slice(0, 300)}`)
      return answer
    } catch (error) {
      count('none')
      throw error
    }
  }

  async function call<T>(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>, patienceMs = 120_000): Promise<T> {
    const end = Date.now() + patienceMs
    for (;;) {
      const answer = await ask(method, path, body, headers).catch((error: unknown) => error as Error)
      if (!(answer instanceof Error) && answer.code < 400) return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T
      if (!(answer instanceof Error) && answer.code < 500) throw new Refused(answer.code, `${method} ${path}: ${answer.code} ${answer.text}`)
      if (Date.now() > end) throw new Error(`${method} ${path}: no answer within ${patienceMs / 1000} s; the last one: ${answer instanceof Error ? `${answer.message} ${String(answer.cause ?? '')}` : `${answer.code} ${answer.text}`}`)
      await pause(250)
    }
  }

  async function list<T>(path: string): Promise<readonly T[]> {
    const items: T[] = []
    for (let after: string | null = ''; after !== null; ) {
      const page: { items: T[]; next?: string | null } = await call('GET', after === '' ? path : `${path}${path.includes('?') ? '&' : '?'}after=${encodeURIComponent(after)}`)
      items.push(...page.items)
      after = page.next ?? null
    }
    return items
  }

  async function readLines<T>(path: string): Promise<readonly T[]> {
    const end = Date.now() + 120_000
    for (;;) {
      const answer = await ask('GET', `${path}?format=ndjson`).catch((error: unknown) => error as Error)
      if (!(answer instanceof Error) && answer.code === 200) return answer.text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as T)
      if (Date.now() > end) throw answer instanceof Error ? answer : new Error(`GET ${path}: ${answer.code} ${answer.text}`)
      await pause(250)
    }
  }

  return { ask, call, list, readLines, codes, wrongAnswers }
}

/** The API said that the request is wrong. */
export class Refused extends Error {
  constructor(readonly code: number, message: string) {
    super(message)
  }
}

export interface Task {
  readonly id: string
  readonly deployment: string
  readonly state: string
  readonly outcome: string | null
  readonly reason: string
  readonly counts: Readonly<Record<string, number>>
  readonly seq: number
}

export interface UnknownAction {
  readonly action: string
  readonly node: string
  readonly attempt: number
  readonly answers: readonly string[]
}

export interface TaskDetail extends Task {
  readonly unknown: readonly UnknownAction[]
  readonly waitingFor: { readonly reason: string; readonly owner: string } | null
}

export interface Action {
  readonly id: string
  readonly component: string
  readonly node: string
  readonly state: string
  readonly attempt: number
  readonly reason: string
  readonly result: { readonly outcome: string; readonly failure?: { readonly code: string; readonly message: string }; readonly commands: readonly { readonly name: string; readonly outcome: string; readonly settledByCheck?: boolean }[] } | null
}

export interface RecordedEvent {
  readonly seq: number
  readonly at: number
  readonly event: { readonly type: string; readonly [field: string]: unknown }
}

export interface LogLine {
  readonly offset: number
  readonly node: string
  readonly action: string
  readonly attempt: number
  readonly stream: string
  readonly text: string
}

export interface ApiNode {
  readonly id: string
  readonly state: string
}
