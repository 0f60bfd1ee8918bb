/**
 * A private PostgreSQL for tests: own data directory, port and password, on loopback alone. It is the distribution's server, run as an unprivileged user where this process is root (it refuses
 * to be root); one that runs already is neither used nor touched. Processes are ended by their ids alone.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { appendFileSync, chownSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'

export interface PrivatePostgres {
  /** Of an empty database of its own. */
  readonly url: string
  readonly port: number
  /** Of the server; another one after a `start`. */
  readonly pid: number
  /** Directory of the data, for tests that look at its files or fill its disk. */
  readonly directory: string
  /** URL of another empty database. `options`: what follows the name in CREATE DATABASE. */
  makeDatabase(options?: string): Promise<string>
  /** Rows of one statement, as the superuser, in the database of `url` or the given one. */
  query<R = Record<string, unknown>>(sql: string, url?: string): Promise<readonly R[]>
  /** `SIGINT` lets nobody finish but leaves the data in order, `SIGTERM` waits for the clients, `SIGKILL` is a crash of the machine: the server and its children die at once. Resolves when all are gone. */
  stop(signal?: 'SIGTERM' | 'SIGINT' | 'SIGKILL'): Promise<void>
  /** Starts it again on its port and data; resolves when it answers. */
  start(): Promise<void>
  /** Stops and goes on with the server and its children (SIGSTOP, SIGCONT): connections stay open and nothing answers. */
  freeze(): void
  thaw(): void
}

export interface PostgresOptions {
  /** Further settings of the server, e.g. `{ max_connections: '20' }`. */
  readonly settings?: Readonly<Record<string, string>>
  /** Where the data lies. Default: a new temporary directory. */
  readonly directory?: string
  /** IPv4 address that it listens on. Default: loopback. */
  readonly address?: string
  /** Default: a free one of the loopback address. */
  readonly port?: number
  /** Goes before the server's command when this process is root, e.g. `['ip', 'netns', 'exec', 'X']`. It must become the command (exec), so that signals arrive. */
  readonly prefix?: readonly string[]
}

/** What of a test is needed here: a program that is no test gives its own. */
export type Scope = Pick<Test, 'teardown' | 'pass'>

const script = resolve(import.meta.dirname, '../scripts/install-postgres.mjs')
const user = 'lichen'
// Characters that a URL must escape.
const password = 'p@ss:w/rd%?'

/** Directory of the server's programs, installed first when this is root; or why there is none. */
function findPrograms(): { readonly programs: string } | { readonly missing: string } {
  const found = spawnSync(process.execPath, [script], { encoding: 'utf8' })
  return found.status === 0 ? { programs: found.stdout.trim() } : { missing: found.stderr.trim() || String(found.error) }
}

/** The user to run the server as: that of the distribution's package, else nobody; none when this process is not root. */
function findOwner(): { readonly uid: number; readonly gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  const accounts = readFileSync('/etc/passwd', 'utf8').split('\n').map((line) => line.split(':'))
  const account = accounts.find(([name]) => name === 'postgres') ?? accounts.find(([name]) => name === 'nobody')
  if (account === undefined) throw new Error('there is neither a user postgres nor a user nobody to run a private PostgreSQL as')
  return { uid: Number(account[2]), gid: Number(account[3]) }
}

function freePort(): Promise<number> {
  return new Promise((resolvePort, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolvePort(port))
    })
  })
}

/** Ids of the processes whose parent is `pid`. */
function listChildren(pid: number): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      // After the name in brackets, which may hold anything: state, then the parent.
      const parent = Number(readFileSync(`/proc/${name}/stat`, 'utf8').replace(/^.*\) . /s, '').split(' ')[0])
      return parent === pid ? [Number(name)] : []
    } catch {
      return []
    }
  })
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

const isThere = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const isRunning = (child: ChildProcess | undefined): child is ChildProcess => child !== undefined && child.exitCode === null && child.signalCode === null

async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  const end = Date.now() + timeoutMs
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`)
    await new Promise((resume) => setTimeout(resume, 20))
  }
}

async function ask<R>(url: string, sql: string): Promise<readonly R[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return (await client.query(sql)).rows as R[]
  } finally {
    await client.end()
  }
}

async function startPrivatePostgres(t: Scope, programs: string, options: PostgresOptions): Promise<PrivatePostgres> {
  const owner = findOwner()
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'lichen-postgres-'))
  const data = join(directory, 'data')
  const output = join(directory, 'output')
  const address = options.address ?? '127.0.0.1'
  const port = options.port ?? (await freePort())
  const environment = { PATH: process.env.PATH, HOME: directory, LC_ALL: 'C.UTF-8' }
  const credentials = owner ?? {}
  let server: ChildProcess | undefined
  let databases = 0

  t.teardown(async () => {
    if (isRunning(server)) thaw()
    await stop('SIGKILL')
    rmSync(data, { recursive: true, force: true })
    if (options.directory === undefined) rmSync(directory, { recursive: true, force: true })
  })

  const urlOf = (database: string): string => `postgres://${user}:${encodeURIComponent(password)}@${address}:${port}/${database}`

  function initialize(): void {
    if (owner) chownSync(directory, owner.uid, owner.gid)
    const passwordFile = join(directory, 'password')
    writeFileSync(passwordFile, password)
    if (owner) chownSync(passwordFile, owner.uid, owner.gid)
    const result = spawnSync(join(programs, 'initdb'), ['--pgdata', data, '--username', user, '--pwfile', passwordFile, '--auth', 'scram-sha-256', '--encoding', 'UTF8', '--locale', 'C.UTF-8', '--no-sync'], { ...credentials, env: environment, encoding: 'utf8', cwd: directory })
    if (result.status !== 0) throw new Error(`initdb failed: ${result.stderr || String(result.error)}`)
    const settings = { listen_addresses: address, port: String(port), unix_socket_directories: '', shared_buffers: '64MB', log_min_messages: 'warning', ...options.settings }
    writeFileSync(join(data, 'postgresql.auto.conf'), Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`).join(''))
    if (options.address) appendFileSync(join(data, 'pg_hba.conf'), 'host all all samenet scram-sha-256\n')
    writeFileSync(output, '')
    if (owner) chownSync(output, owner.uid, owner.gid)
  }

  async function start(): Promise<void> {
    // A test that is ended before its teardown takes the server with it.
    const command = ['/bin/sh', '-c', 'exec setpriv --pdeathsig QUIT "$0" -D "$1" >>"$2" 2>&1', join(programs, 'postgres'), data, output]
    // Entering a namespace takes root: the user is changed behind it.
    const [program, ...args] = owner && options.prefix ? [...options.prefix, 'setpriv', `--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups', ...command] : command
    const child = spawn(program!, args, { ...(options.prefix ? {} : credentials), env: environment, stdio: 'ignore', cwd: directory })
    server = child
    await until('the private PostgreSQL answers', async () => {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`the private PostgreSQL did not start (${child.exitCode ?? child.signalCode})\n${readFileSync(output, 'utf8').slice(-4_000)}`)
      return ask(urlOf('postgres'), 'SELECT 1').then(() => true, () => false)
    })
  }

  const pidOf = (): number => {
    if (!isRunning(server) || server.pid === undefined) throw new Error('the private PostgreSQL does not run')
    return server.pid
  }

  async function stop(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL' = 'SIGINT'): Promise<void> {
    if (!isRunning(server)) return
    const pid = pidOf()
    const children = listChildren(pid)
    signalProcess(pid, signal)
    if (signal === 'SIGKILL') for (const child of children) signalProcess(child, signal)
    await until('the private PostgreSQL is gone', () => !isRunning(server) && !children.some(isThere))
  }

  /** The server first: nobody makes a child after the list was read. */
  function freeze(): void {
    const pid = pidOf()
    signalProcess(pid, 'SIGSTOP')
    for (const child of listChildren(pid)) signalProcess(child, 'SIGSTOP')
  }

  function thaw(): void {
    const pid = pidOf()
    for (const child of listChildren(pid)) signalProcess(child, 'SIGCONT')
    signalProcess(pid, 'SIGCONT')
  }

  async function makeDatabase(more = ''): Promise<string> {
    const name = `lichen_${(databases += 1)}`
    await ask(urlOf('postgres'), `CREATE DATABASE ${name} ${more}`)
    return urlOf(name)
  }

  initialize()
  await start()
  const url = await makeDatabase()
  return {
    url, port, directory, makeDatabase, stop, start, freeze, thaw,
    get pid() {
      return pidOf()
    },
    query: (sql, of = url) => ask(of, sql),
  }
}

/** A private PostgreSQL that answers; it goes away with the test. Undefined, with the test skipped, when there is none to run; in CI (`CI=true`) that fails. */
export async function startPostgres(t: Scope, options: PostgresOptions = {}): Promise<PrivatePostgres | undefined> {
  const found = findPrograms()
  if ('programs' in found) return startPrivatePostgres(t, found.programs, options)
  if (process.env.CI === 'true') throw new Error(found.missing)
  t.pass('a private PostgreSQL', { skip: found.missing })
  return undefined
}
