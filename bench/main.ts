/** `npm run bench [-- --quick]`: our figures beside the machine's floors of the same run, as a table. Never a test: nothing here fails on a time. */
import { cpus, release, totalmem } from 'node:os'
import { measureAgentMemory } from './agent-memory.js'
import { measureLatency, measureThroughput } from './actions.js'
import { makeDirectory, measureFlushes, measureGrpcStream, measureSqliteCommits } from './floors.js'
import { measureLineLatency, measureLogRate } from './log-path.js'
import { median, quantile } from './quantile.js'
import { measureRabbitConfirms } from './rabbit-floor.js'
import { measureSubmit } from './submit.js'
import { startSystem } from './system.js'
import { buildTable, type Figure } from './table.js'

const isQuick = process.argv.includes('--quick')
const say = (text: string) => process.stderr.write(`${text}\n`)
const directory = makeDirectory()
const figures: Figure[] = []

say(`${cpus().length} cores (${cpus()[0]?.model.trim()}), ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()}, Node.js ${process.version}`)
say('floors …')
const flushes = measureFlushes(directory)
const sqlite = await measureSqliteCommits(directory)
const stream = await measureGrpcStream(directory)
const rabbit = await measureRabbitConfirms()
figures.push({ what: 'floor: 4 KiB append + fdatasync', value: flushes.perSecond, unit: '/s', note: `median ${flushes.medianMs.toPrecision(2)} ms` })
figures.push({ what: 'floor: bare SQLite commit, 1 row', value: sqlite, unit: '/s' })
figures.push({ what: 'floor: empty gRPC stream over TLS', value: stream, unit: 'messages/s' })
if (rabbit !== undefined) figures.push({ what: 'floor: bare RabbitMQ confirmed publish', value: rabbit.window100, unit: '/s', note: `window 100, quorum queue; one at a time ${Math.round(rabbit.window1)}/s` })

const system = await startSystem(directory)
try {
  say('50 agents join …')
  await system.startAgents('many', 50)
  say('no-op actions …')
  const rates = await measureThroughput(system, 'many', 50, isQuick ? 40 : 120, isQuick ? 1 : 5)
  figures.push({ what: 'durable no-op actions, 50 agents', value: median(rates), unit: '/s', target: { atLeast: 3000 }, floor: { what: 'SQLite commits/s', value: sqlite }, note: `${rates.length} runs, ${Math.round(Math.min(...rates))} to ${Math.round(Math.max(...rates))}` })
  say('log rate …')
  figures.push({ what: 'log path, 4 nodes at once to store and client', value: await logRate(), unit: 'MB/s', target: { atLeast: 50 } })
  say('one action at a time …')
  await system.startAgents('one', 1)
  const latency = await measureLatency(system, 'one', isQuick ? 40 : 300)
  figures.push({ what: 'one action, submit to recorded end, p50', value: median(latency), unit: 'ms', target: { below: 10 }, floor: { what: 'ms fdatasync', value: flushes.medianMs }, note: `p99 ${quantile(latency, 0.99).toFixed(1)} ms` })
  say('line to tail …')
  const line = await measureLineLatency(system, 'one', isQuick ? 40 : 200)
  figures.push({ what: 'line on stdout to tailing client, p50', value: median(line), unit: 'ms', target: { below: 50 }, note: `p99 ${quantile(line, 0.99).toFixed(1)} ms, ${line.length} lines` })
  say('submit at 500/s …')
  const submit = await measureSubmit(system, 'one', 500, isQuick ? 3 : 10)
  figures.push({ what: 'POST /v1/tasks at 500/s, p99', value: quantile(submit, 0.99), unit: 'ms', target: { below: 20 }, note: `p50 ${median(submit).toFixed(1)} ms; the tasks run meanwhile` })
  say('idle agent …')
  const memory = await measureAgentMemory(system, directory, isQuick ? 5 : 20)
  figures.push(memory === undefined ? { what: 'agent idle, resident', value: Number.NaN, unit: 'MiB', note: 'npm run package:agent first' } : { what: 'agent idle, resident', value: memory.rssMiB, unit: 'MiB', target: { below: 60 }, note: `proportional ${memory.pssMiB.toFixed(0)} MiB` })
} finally {
  await system.stop()
}
console.log(buildTable(figures))

async function logRate(): Promise<number> {
  await system.startAgents('four', 4)
  return measureLogRate(system, 'four', 4, isQuick ? 20 : 30)
}
