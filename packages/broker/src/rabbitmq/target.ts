/** Where RabbitMQ is: the text of LICHEN_BROKER_URL, checked. Nothing of it that may hold a password gets into a message. */
import { readFile } from 'node:fs/promises'
import { LichenError } from '@lichen/core'

/** Certificates as PEM text. `ca` replaces the system's list of authorities. */
export interface TlsMaterial {
  readonly ca?: string | Buffer
  readonly cert?: string | Buffer
  readonly key?: string | Buffer
  readonly servername?: string
}

/** One broker of a cluster. */
export interface BrokerHost {
  /** Without user and password. */
  readonly url: string
  /** The same without parameters, for messages. */
  readonly label: string
  readonly user: string
  readonly password: string
  /** Reads its certificates anew, because they get renewed. @throws BROKER_BAD_URL when a file cannot be read */
  readTls(): Promise<TlsMaterial>
}

/** All brokers of one cluster, in the order written. */
export interface Target {
  readonly hosts: readonly BrokerHost[]
}

// Below 5 s RabbitMQ's authors warn of false alarms (https://www.rabbitmq.com/docs/heartbeats); a broker that is silent for two to three beats is gone, so twice as long hides a frozen one for 30 s.
const defaultHeartbeatS = 5
const longestHeartbeatS = 60

const form = 'amqp://user:password@host:5672/vhost (amqps:// for TLS); several brokers of one cluster are several such URLs with commas between them'
// Names as in https://www.rabbitmq.com/docs/uri-query-parameters.
const fileParameters = { cacertfile: 'ca', certfile: 'cert', keyfile: 'key' } as const
const parameters = ['heartbeat', 'verify', 'server_name_indication', ...Object.keys(fileParameters)]

const isAscii = (text: string): boolean => /^[\x21-\x7e]+$/.test(text)

function parseOne(text: string, which: string): URL {
  const refuse = (problem: string): LichenError => new LichenError('BROKER_BAD_URL', `${which} ${problem}`)
  if (!/^amqps?:\/\//.test(text)) throw refuse(`does not begin with amqp:// or amqps://; expected ${form}. A comma inside a password is written %2C`)
  if (!isAscii(text) || !URL.canParse(text)) throw refuse(`cannot be read; expected ${form}. In user, password and vhost the characters , / ? # @ : % and blanks are percent-encoded`)
  const url = new URL(text)
  if (url.hostname === '') throw refuse(`names no host; expected ${form}`)
  if (/[@/]/.test(url.pathname.slice(1)) || url.hash !== '') throw refuse('has a "/", "@" or "#" after the host; in user, password and vhost these are percent-encoded')
  if (url.port === '0') throw refuse('has port 0')
  if ([url.username, url.password, url.pathname].some((part) => !isDecodable(part))) throw refuse('has a "%" that does not begin a percent-encoded character; a % itself is written %25')
  return url
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

function checkParameters(url: URL, which: string): void {
  const refuse = (problem: string): LichenError => new LichenError('BROKER_BAD_URL', `${which} ${problem}`)
  const unknown = [...url.searchParams.keys()].find((name) => !parameters.includes(name))
  if (unknown !== undefined) throw refuse(`has the unknown parameter "${unknown}"; known are ${parameters.join(', ')}`)
  const heartbeat = url.searchParams.get('heartbeat')
  if (heartbeat !== null && !(/^\d+$/.test(heartbeat) && Number(heartbeat) >= 1 && Number(heartbeat) <= longestHeartbeatS)) throw refuse(`has the heartbeat "${heartbeat}"; it is 1 to ${longestHeartbeatS} seconds, for without it a broker that froze goes unnoticed`)
  if (![null, 'verify_peer'].includes(url.searchParams.get('verify'))) throw refuse('asks for verify other than verify_peer; the certificate of the broker is always checked')
  if (url.searchParams.has('certfile') !== url.searchParams.has('keyfile')) throw refuse('has only one of certfile and keyfile')
  if (url.protocol === 'amqp:' && [...url.searchParams.keys()].some((name) => name !== 'heartbeat')) throw refuse('has parameters of TLS, but begins with amqp://')
}

async function readMaterial(files: readonly (readonly [keyof TlsMaterial, string])[], which: string): Promise<TlsMaterial> {
  const read = files.map(async ([field, path]) => {
    const content = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      throw new LichenError('BROKER_BAD_URL', `${which} names the file ${path}, which cannot be read (${error.code ?? error.message})`, { cause: error })
    })
    return [field, content] as const
  })
  return Object.fromEntries(await Promise.all(read))
}

function buildHost(url: URL, which: string, tls: TlsMaterial): BrokerHost {
  const { searchParams } = url
  const files = Object.entries(fileParameters).flatMap(([name, field]) => (searchParams.has(name) ? [[field, searchParams.get(name) as string] as const] : []))
  const servername = searchParams.get('server_name_indication')
  const label = `${url.protocol}//${url.host}${url.pathname}`
  const isAnonymous = url.username === '' && url.password === ''
  return {
    url: `${label}?heartbeat=${searchParams.get('heartbeat') ?? defaultHeartbeatS}`,
    label,
    user: isAnonymous ? 'guest' : decodeURIComponent(url.username),
    password: isAnonymous ? 'guest' : decodeURIComponent(url.password),
    readTls: async () => ({ ...tls, ...(servername === null ? {} : { servername }), ...(await readMaterial(files, which)) }),
  }
}

/**
 * The brokers that the text names: one URL, or several with commas between them. All must name one virtual host, because they are one cluster.
 * @throws BROKER_BAD_URL with the place in the list and what is wrong there
 */
export function parseTarget(text: string, tls: TlsMaterial = {}): Target {
  const parts = text.split(',').map((part) => part.trim())
  if (text.trim() === '') throw new LichenError('BROKER_BAD_URL', `the broker URL is empty; expected ${form}`)
  const nameOf = (index: number): string => (parts.length === 1 ? 'the broker URL' : `broker URL ${index + 1} of ${parts.length}`)
  const urls = parts.map((part, index) => {
    const url = parseOne(part, nameOf(index))
    checkParameters(url, nameOf(index))
    return url
  })
  const vhostOf = (url: URL): string => decodeURIComponent(url.pathname.slice(1)) || '/'
  const [first] = urls as [URL]
  const other = urls.findIndex((url) => vhostOf(url) !== vhostOf(first))
  if (other > 0) throw new LichenError('BROKER_BAD_URL', `${nameOf(other)} names the virtual host "${vhostOf(urls[other] as URL)}", the first one "${vhostOf(first)}"; they must be brokers of one cluster`)
  return { hosts: urls.map((url, index) => buildHost(url, nameOf(index), tls)) }
}
