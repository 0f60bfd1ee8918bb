/**
 * The program that brings the package cache to a lab's bridge: `node package-proxy.js <package-proxy.json>`. Nodes have no route out of the host:
 * this is how their apt reaches the archive. It starts the cache when it does not run, also later, after it was killed.
 */
import { readFileSync } from 'node:fs'
import { startAptCacher } from './apt-cacher.js'
import { openForwarder } from './forwarder.js'

export interface PackageProxySpec {
  readonly address: string
  readonly port: number
  readonly cacheDirectory: string
  readonly upstreamProxy: string | null
}

const spec = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as PackageProxySpec
process.on('SIGHUP', () => undefined)
await openForwarder(spec.address, spec.port, async () => {
  try {
    return await startAptCacher(spec.cacheDirectory, spec.upstreamProxy ?? undefined)
  } catch (error) {
    process.stderr.write(`package-proxy: ${(error as Error).message}\n`)
    throw error
  }
})
