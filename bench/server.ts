/** Child program: the all-in-one server in a process of its own; prints one JSON line when it answers. Its own log shows warnings only. */
import { pino } from 'pino'
import { startServer } from '@lichen/server'

const [dataDirectory, catalogDirectory] = process.argv.slice(2) as [string, string]
const log = pino({ level: 'warn' }, pino.destination(2))
const server = await startServer({ dataDirectory, catalogDirectory, host: '127.0.0.1', port: 0, gatewayHost: '127.0.0.1', gatewayPort: 0, version: 'bench', log, limits: { engine: { task: { actionsPerNode: 16 } } } })
console.log(JSON.stringify({ apiUrl: server.apiUrl, gatewayPort: server.gatewayPort, adminToken: server.adminToken }))
process.once('SIGTERM', () => void server.stop().then(() => process.exit(0)))
