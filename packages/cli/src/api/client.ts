/**
 * The HTTP side of the CLI: one function that asks and one that opens a stream. Everything that can go wrong becomes a CliFailure here, with
 * the exit code it leads to and words for a person.
 */
import { exitCodes } from '../exit-codes.js'
import { CliFailure, type Problem } from '../failure.js'
import type { Settings } from '../settings.js'

export interface Request {
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  /** Undefined values are left out. */
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>
  readonly signal?: AbortSignal | undefined
}

export interface Client {
  readonly settings: Settings
  /** The JSON of the answer; undefined for an empty one. @throws CliFailure */
  call<T>(method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE', path: string, request?: Request): Promise<T>
  /** The answer with its body still to be read, for streams. @throws CliFailure */
  open(path: string, accept: string, request?: Request): Promise<Response>
}

/** A client for the server of these settings. Opens nothing yet. */
export function openClient(settings: Settings): Client {
  const send = async (method: string, path: string, accept: string, request: Request): Promise<Response> => {
    const headers: Record<string, string> = { accept, ...request.headers }
    if (settings.token !== undefined) headers['authorization'] = `Bearer ${settings.token}`
    if (request.body !== undefined) headers['content-type'] = 'application/json'
    const init: RequestInit = { method, headers, redirect: 'error' }
    if (request.body !== undefined) init.body = JSON.stringify(request.body)
    if (request.signal) init.signal = request.signal
    const response = await fetch(buildUrl(settings.url, path, request.query), init).catch((error: unknown) => {
      throw describeNetworkError(error, settings)
    })
    if (!response.ok) throw await describeAnswer(response, settings)
    return response
  }
  return {
    settings,
    call: async <T>(method: string, path: string, request: Request = {}) => {
      const response = await send(method, path, 'application/json', request)
      const text = await response.text().catch((error: unknown) => {
        throw describeNetworkError(error, settings)
      })
      return (text === '' ? undefined : JSON.parse(text)) as T
    },
    open: (path, accept, request = {}) => send('GET', path, accept, request),
  }
}

function buildUrl(base: string, path: string, query: Request['query'] = {}): string {
  const url = new URL(`${base}${path}`)
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value))
  return url.href
}

/** The failure that a broken connection means. @internal exported for streams, which break while being read. */
export function describeNetworkError(error: unknown, settings: Settings): CliFailure {
  if (error instanceof CliFailure) return error
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const code = (cause as { code?: string }).code
  const found = cause instanceof AggregateError ? cause.errors[0] : cause
  const reason = code === 'ECONNREFUSED' ? 'connection refused' : code === 'ENOTFOUND' || code === 'EAI_AGAIN' ? 'no such host' : found instanceof Error ? found.message : String(found)
  const hint = code === 'ECONNREFUSED' ? 'is `npm start` running? Another server: --url or LICHEN_URL' : undefined
  return new CliFailure(exitCodes.unreachable, `no answer from ${settings.url}: ${reason}`, { code, hint, isTransient: true, cause: error })
}

interface ProblemDetails {
  readonly title?: string
  readonly detail?: string
  readonly code?: string
  readonly problems?: readonly Problem[]
}

async function describeAnswer(response: Response, settings: Settings): Promise<CliFailure> {
  const body = await readProblemDetails(response)
  const message = body.detail ?? body.title ?? `${response.status} ${response.statusText}`
  const details = { code: body.code, problems: body.problems }
  if (response.status === 401 || response.status === 403) {
    const hint = settings.token === undefined ? 'no token was sent: set LICHEN_TOKEN, or run where `.lichen/admin.token` is found' : 'the token is not one of this server: see LICHEN_TOKEN, --token and `.lichen/admin.token`'
    return new CliFailure(exitCodes.unauthenticated, message, { ...details, hint })
  }
  if (response.status >= 500) return new CliFailure(exitCodes.unreachable, `the server cannot do this now: ${message}`, { ...details, isTransient: response.status !== 500 && response.status !== 501 })
  return new CliFailure(exitCodes.rejected, message, details)
}

async function readProblemDetails(response: Response): Promise<ProblemDetails> {
  try {
    const body: unknown = JSON.parse(await response.text())
    return typeof body === 'object' && body !== null ? body : {}
  } catch {
    return {}
  }
}
