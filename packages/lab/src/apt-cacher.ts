/**
 * The package cache: one apt-cacher-ng per cache directory, shared by all labs that use the directory, because two of them writing to
 * one cache would damage it. It listens on the loopback address only; each lab brings it to its own bridge (`package-proxy.ts`).
 *
 * 1. It is found by the configuration directory in its command line, never by its name or a pid file.
 * 2. It is started and stopped under a lock on the cache directory.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { openLock } from './lock.js'
import { startDetached } from './program.js'
import { readProcesses, signalProcess, waitUntilGone, type HostProcess } from './processes.js'

const startTimeoutMs = 10_000

/** apt-cacher-ng 3.7 does not bind ports above 32767 ("Error resolving address for binding"). */
const ports = { first: 20_000, last: 32_000 }

/**
 * The loopback port of the running cache of this directory, started when it does not run.
 * @throws Error with what it printed when it does not start to answer.
 */
export async function startAptCacher(cacheDirectory: string, upstreamProxy: string | undefined): Promise<number> {
  mkdirSync(join(cacheDirectory, 'apt', 'conf'), { recursive: true })
  const lock = await openLock(join(cacheDirectory, 'apt.lock'), 60_000)
  if (!lock) throw new Error(`the package cache in ${cacheDirectory} is locked`)
  try {
    const port = readPort(cacheDirectory)
    if (findAptCacher(cacheDirectory) && port !== undefined && (await isAnswering(port))) return port
    await killAptCacher(cacheDirectory)
    return await startNew(cacheDirectory, upstreamProxy)
  } finally {
    await lock.close()
  }
}

/** Stops the cache of this directory unless `isUsed` says that somebody needs it; its packages stay. */
export async function stopAptCacher(cacheDirectory: string, isUsed: () => boolean): Promise<void> {
  if (!findAptCacher(cacheDirectory)) return
  const lock = await openLock(join(cacheDirectory, 'apt.lock'), 60_000)
  try {
    if (!isUsed()) await killAptCacher(cacheDirectory)
  } finally {
    await lock?.close()
  }
}

/** The process of the cache of this directory, if it runs. */
export function findAptCacher(cacheDirectory: string): HostProcess | undefined {
  const conf = confDirectory(cacheDirectory)
  return readProcesses().find(({ argv }) => basename(argv[0] ?? '') === 'apt-cacher-ng' && argv.includes(conf))
}

async function killAptCacher(cacheDirectory: string): Promise<void> {
  const running = findAptCacher(cacheDirectory)
  if (!running) return
  signalProcess(running, 'SIGTERM')
  if ((await waitUntilGone([running], 1000)).length > 0) signalProcess(running, 'SIGKILL')
  await waitUntilGone([running], 5000)
}

async function startNew(cacheDirectory: string, upstreamProxy: string | undefined): Promise<number> {
  const logPath = join(cacheDirectory, 'apt', 'apt-cacher-ng.log')
  for (let attempt = 0; attempt < 5; attempt++) {
    const port = await chooseFreePort()
    writeFileSync(join(confDirectory(cacheDirectory), 'acng.conf'), buildConfiguration(cacheDirectory, port, upstreamProxy))
    startDetached(['apt-cacher-ng', '-c', confDirectory(cacheDirectory)], logPath)
    const deadline = performance.now() + startTimeoutMs
    while (performance.now() < deadline) {
      if (await isAnswering(port)) return port
      await delay(25)
      if (performance.now() > deadline - startTimeoutMs + 500 && !findAptCacher(cacheDirectory)) break
    }
  }
  throw new Error(`apt-cacher-ng does not start: ${readFileSync(logPath, 'utf8').trim().split('\n').slice(-3).join(' | ')}`)
}

/** Debian's own configuration is not used: it sends requests for the archive to mirrors of its choice, which a host may not reach. */
function buildConfiguration(cacheDirectory: string, port: number, upstreamProxy: string | undefined): string {
  const lines = [
    `CacheDir: ${join(cacheDirectory, 'apt', 'packages')}`,
    `LogDir: ${join(cacheDirectory, 'apt', 'log')}`,
    'BindAddress: 127.0.0.1',
    `Port: ${port}`,
    // any port of the archive's host: 80 alone, the default, forbids archives reached by TLS
    'AllowUserPorts: 0',
    'ForeGround: 1',
    'ExThreshold: 30',
    ...(upstreamProxy ? [`Proxy: ${upstreamProxy}`] : []),
  ]
  return lines.join('\n') + '\n'
}

function confDirectory(cacheDirectory: string): string {
  return join(cacheDirectory, 'apt', 'conf')
}

function readPort(cacheDirectory: string): number | undefined {
  try {
    return Number(/^Port: (\d+)$/m.exec(readFileSync(join(confDirectory(cacheDirectory), 'acng.conf'), 'utf8'))?.[1])
  } catch {
    return undefined
  }
}

async function chooseFreePort(): Promise<number> {
  for (;;) {
    const port = ports.first + Math.floor(Math.random() * (ports.last - ports.first))
    const server = createServer()
    const isFree = await new Promise<boolean>((settle) => server.once('error', () => settle(false)).listen(port, '127.0.0.1', () => settle(true)))
    if (isFree) await new Promise((done) => server.close(done))
    if (isFree) return port
  }
}

function isAnswering(port: number): Promise<boolean> {
  return new Promise((settle) => {
    const socket = connect(port, '127.0.0.1')
    const end = (answer: boolean): void => {
      socket.destroy()
      settle(answer)
    }
    socket.once('connect', () => end(true)).once('error', () => end(false))
  })
}
