/**
 * Where the server is and which token it gets. A flag wins over the environment, the environment over the data directory: LICHEN_DATA_DIRECTORY,
 * else the `.lichen` that is found upwards from the working directory (where `npm start` keeps its own).
 *
 * 1. The token of a data directory is sent to the server of that directory or to this machine only: `--url` of another machine never
 *    gets the local administrator's token.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { usageFailure } from './failure.js'

export interface Settings {
  /** Origin of the API without a trailing slash, e.g. `http://127.0.0.1:8470`. */
  readonly url: string
  readonly token: string | undefined
  /** What says so, for messages: `--url`, `LICHEN_URL`, a file name or `default`. */
  readonly urlFrom: string
}

/** Where `npm start` listens when nothing else is said. */
export const defaultUrl = 'http://127.0.0.1:8470'

/**
 * The settings from flags, environment and files.
 * @throws CliFailure (usage) when the URL is none.
 */
export function readSettings(input: { readonly flags: { readonly url?: string | undefined; readonly token?: string | undefined }; readonly env: Readonly<Record<string, string | undefined>>; readonly directory: string }): Settings {
  const data = input.env['LICHEN_DATA_DIRECTORY'] ? resolve(input.directory, input.env['LICHEN_DATA_DIRECTORY']) : findDataDirectory(input.directory)
  const local = data === undefined ? undefined : readLocalUrl(data)
  const [given, urlFrom] = input.flags.url ? [input.flags.url, '--url'] : input.env['LICHEN_URL'] ? [input.env['LICHEN_URL'], 'LICHEN_URL'] : local ? [local, join(data!, 'server.json')] : [defaultUrl, 'default']
  const url = parseUrl(given, urlFrom)
  const token = input.flags.token || input.env['LICHEN_TOKEN'] || (data !== undefined && (url.origin === local || isThisMachine(url)) ? readText(join(data, 'admin.token')) : undefined)
  return { url: url.href.replace(/\/+$/, ''), token, urlFrom }
}

function parseUrl(text: string, from: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url
  throw usageFailure(`${from}: "${text}" is no URL of the form http://host:port`)
}

const isThisMachine = (url: URL): boolean => url.hostname === 'localhost' || url.hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(url.hostname)

function findDataDirectory(from: string): string | undefined {
  for (let directory = from; ; directory = dirname(directory)) {
    const candidate = join(directory, '.lichen')
    if (existsSync(join(candidate, 'admin.token')) || existsSync(join(candidate, 'server.json'))) return candidate
    if (directory === dirname(directory)) return undefined
  }
}

function readLocalUrl(data: string): string | undefined {
  const text = readText(join(data, 'server.json'))
  if (text === undefined) return undefined
  try {
    const { apiUrl } = JSON.parse(text) as { apiUrl?: unknown }
    return typeof apiUrl === 'string' ? new URL(apiUrl).origin : undefined
  } catch {
    return undefined
  }
}

// A file that this user may not read counts as not there: the server then answers that a token is missing, which says more.
function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}
