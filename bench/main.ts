/** `npm run bench [-- --quick] [-- --only NAME,…]`: our figures beside the machine's floors of the same run, as a table. Never a test: nothing here fails on a time. */
import { cpus, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { measureAgentMemory } from './agent-memory.js'
import { measureLatency, measureThroughput } from './actions.js'
import { makeDirectory, measureFlushes, measureGrpcStream, measureSqliteCommits } from './floors.js'
import { measureLineLatency, measureLogRate } from './log-path.js'
import { median, quantile } from './quantile.js'
import { measureRabbitConfirms } from './rabbit-floor.js'
import { measureSubmit } from './submit.js'
import { startSystem, type System } from './system.js'
import { buildTable, type Figure } from './table.js'

const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false }, only: { type: 'string' } } })
const isQuick = options.quick
const directory = makeDirectory()
const figures: Figure[] = []

/** What can be named with --only, in the order it is measured. The floors come first: the others are compared with them. */
const sections: Readonly<Record<string, (floors: Floors) => Promise<void>>> = {
  async actions({ sqlite }) {
    const rates = await withSystem({ many: 50 }, (system) => measureThroughput(system, 'many', 50, isQuick ? 40 : 120, isQuick ? 1 : 5))
    figures.push({ what: 'durable no-op actions, 50 agents', value: median(rates), unit: '/s', target: { atLeast: 3000 }, floor: { what: 'SQLite commits/s', value: sqlite }, note: `${rates.length} runs, ${Math.round(Math.min(...rates))} to ${Math.round(Math.max(...rates))}` })
  },
  async latency({ flushMs }) {
    const latency = await withSystem({ one: 1 }, (system) => measureLatency(system, 'one', isQuick ? 40 : 300))
    figures.push({ what: 'one action, submit to recorded end, p50', value: median(latency), unit: 'ms', target: { below: 10 }, floor: { what: 'ms fdatasync', value: flushMs }, note: `p99 ${quantile(latency, 0.99).toFixed(1)} ms` })
  },
  async submit() {
    const submit = await withSystem({ one: 1 }, (system) => measureSubmit(system, 'one', 500, isQuick ? 3 : 10))
    figures.push({ what: 'POST /v1/tasks at 500/s, p99', value: quantile(submit, 0.99), unit: 'ms', target: { below: 20 }, note: `p50 ${median(submit).toFixed(1)} ms; the tasks run meanwhile` })
  },
  async line() {
    const line = await withSystem({ one: 1 }, (system) => measureLineLatency(system, 'one', isQuick ? 40 : 200))
    figures.push({ what: 'line on stdout to tailing client, p50', value: median(line), unit: 'ms', target: { below: 50 }, note: `p99 ${quantile(line, 0.99).toFixed(1)} ms, ${line.length} lines` })
  },
  async log() {
    const rate = await withSystem({ four: 4 }, (system) => measureLogRate(system, 'four', 4, isQuick ? 20 : 30))
    figures.push({ what: 'log path, 4 nodes at once to store and client', value: rate, unit: 'MB/s', target: { atLeast: 50 } })
  },
  async memory() {
    const memory = await withSystem({}, (system) => measureAgentMemory(system, directory, isQuick ? 5 : 20))
    figures.push(memory === undefined ? { what: 'agent idle, resident', value: Number.NaN, unit: 'MiB', note: 'npm run package:agent first' } : { what: 'agent idle, resident', value: memory.rssMiB, unit: 'MiB', target: { below: 60 }, note: `proportional ${memory.pssMiB.toFixed(0)} MiB` })
  },
}

interface Floors {
  readonly sqlite: number
  readonly flushMs: number
}

async function measureFloors(): Promise<Floors> {
  const flushes = measureFlushes(directory)
  const sqlite = await measureSqliteCommits(directory)
  const stream = await measureGrpcStream(directory)
  const rabbit = await measureRabbitConfirms()
  figures.push({ what: 'floor: 4 KiB append + fdatasync', value: flushes.perSecond, unit: '/s', note: `median ${flushes.medianMs.toPrecision(2)} ms` })
  figures.push({ what: 'floor: bare SQLite commit, 1 row', value: sqlite, unit: '/s' })
  figures.push({ what: 'floor: empty gRPC stream over TLS', value: stream, unit: 'messages/s' })
  if (rabbit !== undefined) figures.push({ what: 'floor: bare RabbitMQ confirmed publish', value: rabbit.window100, unit: '/s', note: `window 100, quorum queue; one at a time ${Math.round(rabbit.window1)}/s` })
  return { sqlite, flushMs: flushes.medianMs }
}

/** A system of its own for each figure, with so many agents of each label: what one measurement leaves behind does not weigh on the next. */
async function withSystem<T>(agents: Readonly<Record<string, number>>, measure: (system: System) => Promise<T>): Promise<T> {
  const system = await startSystem(makeDirectory())
  try {
    for (const [prefix, count] of Object.entries(agents)) await system.startAgents(prefix, count)
    return await measure(system)
  } finally {
    await system.stop()
  }
}

const say = (text: string) => process.stderr.write(`${text}\n`)
const names = options.only === undefined ? Object.keys(sections) : options.only.split(',')
const unknown = names.filter((name) => sections[name] === undefined)
if (unknown.length > 0) {
  say(`no such figure: ${unknown.join(', ')}; there are ${Object.keys(sections).join(', ')}`)
  process.exit(2)
}
say(`${cpus().length} cores (${cpus()[0]?.model.trim()}), ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()}, Node.js ${process.version}`)
say('floors …')
const floors = await measureFloors()
for (const name of names) {
  say(`${name} …`)
  await sections[name]!(floors)
}
console.log(buildTable(figures))
