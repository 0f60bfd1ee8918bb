/** Child program: many agents in one process, each with its own key, certificate, journal and stream. Prints one JSON line when all have joined. */
import { join } from 'node:path'
import { startAgent } from '@lichen/agent'
import { clockOf } from '@lichen/core'

const [directory, gateway, token, from, to, prefix] = process.argv.slice(2) as [string, string, string, string, string, string]
const quiet = { debug: () => undefined, info: () => undefined, warn: console.error, error: console.error }
const agents = await Promise.all(
  Array.from({ length: Number(to) - Number(from) }, (_, offset) => Number(from) + offset).map((index) =>
    startAgent({ gateway, token, name: `${prefix}${index}`, labels: { bench: prefix }, dataDirectory: join(directory, `${prefix}${index}`), clock: clockOf(globalThis), log: quiet, concurrency: 16 }),
  ),
)
console.log(JSON.stringify({ agents: agents.length }))
process.once('SIGTERM', () => void Promise.all(agents.map((agent) => agent.stop())).then(() => process.exit(0)))
