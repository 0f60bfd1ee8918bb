/** The package proxy of a lab: the detached program that serves the package cache on the lab's bridge (`package-proxy.ts`). */
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { LichenError } from '@lichen/core'
import { openForwarder } from './forwarder.js'
import type { LabNames } from './names.js'
import type { PackageProxySpec } from './package-proxy.js'
import { startDetached } from './program.js'
import { readProcesses, type HostProcess } from './processes.js'
import { replaceFile } from './state.js'

/** The port people know apt-cacher-ng by; taken when it is free on the bridge. */
const usualPort = 3142

const startTimeoutMs = 10_000

const programPath = fileURLToPath(new URL('./package-proxy.js', import.meta.url))

/** A port of this address that is free now. */
export async function chooseProxyPort(address: string): Promise<number> {
  for (const port of [usualPort, 0]) {
    try {
      const probe = await openForwarder(address, port, () => Promise.reject(new Error('only a probe')))
      await probe.close()
      return probe.port
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    }
  }
  throw new LichenError('LAB_NETWORK', `no free port on ${address}`)
}

/** Starts the proxy of a lab if it does not run, and returns when it takes connections. */
export async function startPackageProxy(names: LabNames, spec: PackageProxySpec): Promise<void> {
  replaceFile(names.proxySpecPath, JSON.stringify(spec) + '\n')
  if (!findPackageProxies().some(({ argv }) => argv[2] === names.proxySpecPath)) {
    startDetached([process.execPath, programPath, names.proxySpecPath], names.proxyLogPath)
  }
  const deadline = performance.now() + startTimeoutMs
  while (performance.now() < deadline) {
    if (await isAnswering(spec.address, spec.port)) return
    await delay(25)
  }
  const log = readFileSync(names.proxyLogPath, 'utf8').trim().split('\n').slice(-3).join(' | ')
  throw new LichenError('LAB_PROGRAM_FAILED', `the package proxy does not answer on ${spec.address}:${spec.port}: ${log || 'it printed nothing'}`)
}

/** Whether the proxy of any lab uses this cache directory now. */
export function isCacheUsed(cacheDirectory: string): boolean {
  return findPackageProxies().some(({ argv }) => {
    try {
      return (JSON.parse(readFileSync(argv[2] ?? '', 'utf8')) as PackageProxySpec).cacheDirectory === cacheDirectory
    } catch {
      return false // its lab was removed a moment ago
    }
  })
}

function findPackageProxies(): HostProcess[] {
  return readProcesses().filter(({ argv }) => basename(argv[1] ?? '') === 'package-proxy.js' && argv.length === 3)
}

function isAnswering(address: string, port: number): Promise<boolean> {
  return new Promise((settle) => {
    const socket = connect(port, address)
    socket.once('connect', () => (socket.destroy(), settle(true))).once('error', () => settle(false))
  })
}
