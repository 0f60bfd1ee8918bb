/**
 * Requests to the APIs of one cloud as one user. Owns the token and what the catalogue said with it.
 *
 * 1. One token for the whole session, and for the ones after it (token-shelf.ts). Another one is asked for when it is refused (it was revoked or its time is over), and when a service is not in its catalogue: it may have come since.
 * 2. Reads are tried again a few times when nobody answers, or with an error of the server's own: servers do that while they start. Writes are not, unless there was no connection at all:
 *    whether they took effect is for the next check to see.
 * 3. Between writes a thing is read once: names of the same user, role and project are behind most of what a command says.
 * 4. Everything ends with the deadline of the command.
 */
import { readFile } from 'node:fs/promises'
import type { OpenstackAuth } from '@lichen/core'
import { pause } from '../../run/deadline.js'
import type { CommandContext } from '../primitive.js'
import { ApiFailure, parseObject, toFailure } from './api-failure.js'
import { type Answer, exchange, type Request, type StreamedBody } from './exchange.js'
import { type Catalogue, findEndpoint, type ServiceType, withVersion } from './service-catalogue.js'
import { type Token, TokenShelf } from './token-shelf.js'

/** Pauses between tries: 7.5 s together, about what a service takes to load its code. Waiting longer is what a probe is for. */
const pausesMs = [500, 1000, 2000, 4000]
/** A server that is silent for longer hangs. Half of it would cut off busy ones on slow machines. */
const answerMs = 60_000
/** Lists longer than so many pages are taken for a server that gives the same page again and again. */
const maxPages = 1000

export type JsonObject = Readonly<Record<string, unknown>>

/** What is asked for. */
export interface Target {
  readonly service: ServiceType
  /** Behind the version of the API, e.g. `/projects`. */
  readonly path: string
  readonly query?: Readonly<Record<string, unknown>> | undefined
}

/** Of a write: JSON, or a stream as it is. */
export interface Content {
  readonly json?: unknown
  readonly stream?: StreamedBody
  /** Default: application/json. */
  readonly type?: string
}

const shelf = new TokenShelf()

/** See the file header. */
export class Session {
  readonly auth: OpenstackAuth
  readonly #context: CommandContext
  readonly #identityUrl: string
  readonly #ca: string | undefined
  /** What was read since the last write. */
  readonly #seen = new Map<string, Answer>()
  #token: Token

  private constructor(auth: OpenstackAuth, context: CommandContext, ca: string | undefined) {
    this.auth = auth
    this.#context = context
    this.#identityUrl = withVersion(auth.url, 'identity')
    this.#ca = ca
    this.#token = { id: '', projectId: undefined, catalogue: [] }
  }

  /** A session with a token. @throws ApiFailure when there is none to be had. */
  static async open(auth: OpenstackAuth, context: CommandContext): Promise<Session> {
    context.log.masker.add(auth.password)
    const session = new Session(auth, context, auth.caFile === undefined ? undefined : await readFile(auth.caFile, 'utf8'))
    const kept = shelf.take(auth, context.deadline.clock.elapsed())
    if (kept === undefined) await session.#authenticate()
    else session.#use(kept)
    return session
  }

  /** Id of the project that it acts in; undefined when it acts on the system. */
  get projectId(): string | undefined {
    return this.#token.projectId
  }

  get context(): CommandContext {
    return this.#context
  }

  /** The object there; undefined when there is none (404). */
  async read(target: Target): Promise<JsonObject | undefined> {
    const answer = await this.#look(target)
    if (answer.status === 404) return undefined
    return answer.status === 204 ? {} : this.#parse(answer, target)
  }

  /** Every item of the list, all pages of it. `name`: the list's key in the answer. */
  async list(target: Target, name: string): Promise<readonly JsonObject[]> {
    const items: JsonObject[] = []
    for (let [query, pages] = [target.query, 0]; pages < maxPages; pages++) {
      const answer = await this.#look({ ...target, query })
      // A list may be empty, but it is there: this is no answer to whether something is.
      if (answer.status === 404) throw new ApiFailure('COMMAND_OPENSTACK_REFUSED', `${this.#describe('GET', target)}: answered 404: there is no such API at the endpoint of the catalogue`)
      const body = this.#parse(answer, target)
      if (!Array.isArray(body[name])) throw new ApiFailure('COMMAND_OPENSTACK_REFUSED', `${this.#describe('GET', target)}: the answer has no list "${name}"`)
      items.push(...(body[name] as JsonObject[]))
      const next = findNext(body, name)
      if (next === undefined) return items
      query = next
    }
    throw new ApiFailure('COMMAND_OPENSTACK_REFUSED', `${this.#describe('GET', target)}: more than ${maxPages} pages`)
  }

  /** What the service answered; empty when nothing. Accepts any 2xx. @throws ApiFailure for everything else. */
  async write(method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', target: Target, content: Content = {}): Promise<JsonObject> {
    if (target.service === 'identity') shelf.clear()
    this.#seen.clear()
    const answer = await this.#ask(method, target, content)
    if (answer.status < 200 || answer.status > 299) throw toFailure(this.#describe(method, target), answer)
    return parseObject(answer.text) ?? {}
  }

  /** Whether the user can get a token with this password. A user that is disabled cannot. */
  async isPasswordOf(userId: string, password: string): Promise<boolean> {
    this.#context.log.masker.add(password)
    const proof = shelf.takeProof(this.#identityUrl, userId, password)
    if (proof !== undefined && (await this.#isTokenValid(proof))) return true
    const user = { id: userId, password }
    const answer = await this.#askForToken({ identity: { methods: ['password'], password: { user } }, scope: 'unscoped' })
    if (answer.subjectToken !== undefined) this.#context.log.masker.add(answer.subjectToken)
    shelf.putProof(this.#identityUrl, userId, password, answer.status === 201 ? answer.subjectToken : undefined)
    if (answer.status === 201) return true
    if (answer.status === 401) return false
    throw toFailure(`POST ${this.#identityUrl}/auth/tokens as user ${userId}`, answer)
  }

  /** Asked with itself, which anybody may. */
  async #isTokenValid(token: string): Promise<boolean> {
    this.#context.log.masker.add(token)
    const headers = { 'accept': 'application/json', 'x-auth-token': token, 'x-subject-token': token }
    return (await this.#send({ method: 'GET', url: new URL(`${this.#identityUrl}/auth/tokens?nocatalog`), headers, body: undefined, limitMs: answerMs }, true)).status === 200
  }

  async #look(target: Target): Promise<Answer> {
    const key = JSON.stringify([target.service, target.path, target.query ?? {}])
    const answer = this.#seen.get(key) ?? (await this.#ask('GET', target))
    this.#seen.set(key, answer)
    return answer
  }

  async #ask(method: string, target: Target, content: Content = {}): Promise<Answer> {
    const answer = await this.#askOnce(method, target, content)
    if (answer.status !== 401) return answer
    await this.#authenticate()
    return await this.#askOnce(method, target, content)
  }

  async #askOnce(method: string, target: Target, { json, stream, type = 'application/json' }: Content): Promise<Answer> {
    const url = new URL((await this.#endpointOf(target.service)) + target.path)
    for (const [name, value] of Object.entries(target.query ?? {})) url.searchParams.set(name, String(value))
    const body = stream ?? (json === undefined ? undefined : JSON.stringify(json))
    const headers = { accept: 'application/json', 'x-auth-token': this.#token.id, ...(body !== undefined && { 'content-type': type }) }
    return await this.#send({ method, url, headers, body, limitMs: stream ? undefined : answerMs }, method === 'GET')
  }

  async #endpointOf(type: ServiceType): Promise<string> {
    // By the address that was given: the catalogue's may be one that this node does not reach.
    if (type === 'identity') return this.#identityUrl
    try {
      return findEndpoint(this.#token.catalogue, type, this.auth)
    } catch {
      await this.#authenticate()
      return findEndpoint(this.#token.catalogue, type, this.auth)
    }
  }

  async #authenticate(): Promise<void> {
    const { user, password, userDomain = 'Default', project, projectDomain = 'Default' } = this.auth
    const scope = project === undefined ? { system: { all: true } } : { project: { name: project, domain: { name: projectDomain } } }
    const answer = await this.#askForToken({ identity: { methods: ['password'], password: { user: { name: user, domain: { name: userDomain }, password } } }, scope })
    const what = `${this.#identityUrl}: no token for user ${user} (domain ${userDomain}) ${project === undefined ? 'on the system' : `in project ${project} (domain ${projectDomain})`}`
    const { token } = (parseObject(answer.text) ?? {}) as { token?: { project?: { id: string }; catalog?: Catalogue } }
    if (answer.status === 201 && token && answer.subjectToken !== undefined) {
      this.#use({ id: answer.subjectToken, projectId: token.project?.id, catalogue: token.catalog ?? [] })
      shelf.put(this.auth, this.#token, this.#context.deadline.clock.elapsed())
      return
    }
    if (answer.status === 404 || answer.status === 201 || answer.status === 200) throw new ApiFailure('COMMAND_OPENSTACK_UNREACHABLE', `${what}: answered ${answer.status}, and not as an identity API of version 3 does`)
    throw toFailure(what, answer)
  }

  #use(token: Token): void {
    this.#context.log.masker.add(token.id)
    this.#token = token
  }

  async #askForToken(auth: unknown): Promise<Answer> {
    return await this.#send({ method: 'POST', url: new URL(`${this.#identityUrl}/auth/tokens`), headers: { accept: 'application/json', 'content-type': 'application/json' }, body: JSON.stringify({ auth }), limitMs: answerMs }, true)
  }

  /** Tries again as the header says. */
  async #send(request: Request, isRepeatable: boolean): Promise<Answer> {
    const { deadline, log } = this.#context
    const what = `${request.method} ${request.url.origin}${request.url.pathname}`
    for (const [tries, pauseMs] of [...pausesMs, undefined].entries()) {
      let problem: string
      try {
        const answer = await exchange(request, { deadline, ca: this.#ca })
        if (!isRepeatable || pauseMs === undefined || (answer.status < 500 && answer.status !== 300)) return answer
        problem = `answered ${answer.status}`
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException
        problem = message || code || 'failed'
        const isAgain = isRepeatable || code === 'ECONNREFUSED'
        // Silence for that long is no passing trouble.
        if (deadline.reason || !isAgain || pauseMs === undefined || problem.startsWith('no answer within')) {
          shelf.clear()
          throw new ApiFailure('COMMAND_OPENSTACK_UNREACHABLE', `${what}: ${problem}${tries > 0 ? ` (${tries + 1} tries)` : ''}`, { cause: error })
        }
      }
      log.say(`${what}: ${problem}; trying again in ${pauseMs} ms`)
      await pause(pauseMs, deadline)
    }
    throw new Error('the last try has no pause after it')
  }

  #parse(answer: Answer, target: Target): JsonObject {
    if (answer.status !== 200) throw toFailure(this.#describe('GET', target), answer)
    const body = parseObject(answer.text)
    if (body === undefined) throw new ApiFailure('COMMAND_OPENSTACK_UNREACHABLE', `${this.#describe('GET', target)}: the answer is no JSON object`)
    return body
  }

  #describe(method: string, { service, path }: Target): string {
    return `${service}: ${method} ${path}`
  }
}

/**
 * The query of the next page; undefined after the last. Keystone: `links.next`, nova and neutron: `NAME_links: [{rel: next, href}]`, glance: `next`. Only the query is taken: behind a proxy
 * the rest may be an address that cannot be reached.
 */
function findNext(body: JsonObject, name: string): Record<string, string> | undefined {
  const { next } = (body['links'] ?? {}) as { next?: unknown }
  const links = body[`${name}_links`] as readonly { rel?: unknown; href?: unknown }[] | undefined
  const href = next ?? body['next'] ?? links?.find(({ rel }) => rel === 'next')?.href
  return typeof href === 'string' ? Object.fromEntries(new URL(href, 'http://localhost').searchParams) : undefined
}
