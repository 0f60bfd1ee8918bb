/** The API server by itself, beside engines that run elsewhere: many of them may serve one store and one RabbitMQ. The first SIGINT or SIGTERM stops politely. */
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { openRabbitBroker } from '@lichen/broker'
import { readCatalog } from '@lichen/catalog'
import { describeConfig, findUnknownSettings, LichenError, parseConfig } from '@lichen/core'
import { openStore } from '@lichen/store'
import { destination, pino } from 'pino'
import { Registry } from 'prom-client'
import { startAnnouncer } from './announcer.js'
import { buildApi } from './api.js'
import { bootstrapAdminToken } from './auth/api-token.js'
import { apiSettings } from './configuration.js'

/** Containers get 10 s from Docker before SIGKILL. */
const stopDeadlineMs = 8_000

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

async function main(): Promise<void> {
  const config = parseConfig(apiSettings, process.env)
  if (!config.ok) throw new LichenError('SERVER_CONFIGURATION', 'the settings in the environment cannot be used', { problems: config.problems })
  const { host, port, storeUrl, brokerUrl, catalogDirectory, gatewayAddress, caDigest, adminToken, logLevel } = config.value
  const log = pino({ name: 'lichen-api', level: logLevel }, destination({ dest: 2, sync: false }))
  log.info({ settings: describeConfig(apiSettings, config.value) }, 'starting')
  for (const name of findUnknownSettings(apiSettings, process.env, 'LICHEN_')) log.warn({ name }, 'no setting of this name: it is ignored')

  const catalog = await readCatalog(catalogDirectory)
  const store = await openStore(storeUrl, log)
  const broker = await openRabbitBroker({ url: brokerUrl, log })
  const announcer = startAnnouncer({ store, broker, log })
  const api = buildApi({ store, broker, announcer, catalog, caDigest, gatewayAddress, now: Date.now, log, registry: new Registry(), version })
  if (adminToken !== undefined) await bootstrapAdminToken(store, { now: Date.now, token: adminToken })
  stopOnSignals(async () => {
    await api.close()
    await announcer.stop()
    await broker.close()
    await store.close()
  })
  await api.listen({ host, port })
  const address = api.server.address() as AddressInfo
  log.info({ address: address.address, port: address.port }, 'the API is listening')
}

function stopOnSignals(stop: () => Promise<void>): void {
  let isStopping = false
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (isStopping) process.exit(signal === 'SIGINT' ? 130 : 143)
      isStopping = true
      setTimeout(() => process.exit(1), stopDeadlineMs).unref()
      void stop().then(() => process.exit(0))
    })
  }
}

await main().catch((error: unknown) => {
  if (!(error instanceof LichenError)) throw error
  process.stderr.write(`lichen-api: ${error.message} (${error.code})\n`)
  for (const problem of error.problems) process.stderr.write(`  ${problem.path}: ${problem.message} (${problem.code})\n`)
  process.exit(error.entry.kind === 'rejected' ? 2 : 1)
})
