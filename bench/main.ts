/** `npm run bench [-- --quick] [-- --only NAME,…]`: our figures beside the machine's floors of the same run, as a table. Never a test: nothing here fails on a time. */
import { cpus, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { measureAgentMemory } from './agent-memory.js'
import { measureLatency, measureThroughput } from './actions.js'
import { type FleetSystem, measureComeBack, measureFanOut, measureIdle, measureUnchanged, startFleetSystem } from './fleet-figures.js'
import { type ConnectionFloor, makeDirectory, measureConnections, measureFlushes, measureGrpcStream, measureSqliteCommits } from './floors.js'
import { buildOverheadFigures, makeClusters } from './kubernetes-figures.js'
import { measureLineLatency, measureLogRate } from './log-path.js'
import { buildCloudFigures, makeClouds } from './openstack-figures.js'
import { measurePostgres, measurePostgresEndToEnd } from './postgres-figures.js'
import { median, quantile } from './quantile.js'
import { measureRabbitConfirms } from './rabbit-floor.js'
import { measureOwnShare, measureSimulator } from './simulator.js'
import { measureSubmit } from './submit.js'
import { skipReason } from '../test/lab/lab-fixture.js'
import { startSystem, type System } from './system.js'
import { buildTable, type Figure } from './table.js'
import { measureTakeOver } from './take-over.js'

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
  async takeover() {
    const runs = await measureTakeOver(makeDirectory(), isQuick ? 2 : 7)
    if (runs === undefined) return void figures.push({ what: 'take-over after kill -9 of an engine', value: Number.NaN, unit: 's', note: 'PostgreSQL and RabbitMQ cannot be run here' })
    const claimed = runs.map((run) => run.claimedMs / 1000)
    const succeeded = runs.map((run) => run.succeededMs / 1000)
    figures.push({ what: 'kill -9 of an engine to taskClaimed, worst', value: Math.max(...claimed), unit: 's', target: { below: 5 }, note: `median ${median(claimed).toPrecision(3)} s of ${runs.length}; default settings` })
    figures.push({ what: '  to success of an action sent after it, worst', value: Math.max(...succeeded), unit: 's', target: { below: 5 }, note: `median ${median(succeeded).toPrecision(3)} s` })
  },
  async fanout() {
    const floor = await readConnectionFloor()
    const runs = await withFleet(1_000, (system) => measureFanOut(system, isQuick ? 2 : 5))
    const elapsed = runs.map((run) => run.elapsedMs / 1000)
    figures.push({ what: '1,000 agents, one no-op action each', value: median(elapsed), unit: 's', target: { below: 2 }, floor: { what: 's bare fan-out', value: floor.fanOutMs / 1000 }, note: `worst ${Math.max(...elapsed).toPrecision(3)} s; server ${Math.round(median(runs.map((run) => run.cpuMs)))} ms of processor time` })
  },
  async unchanged() {
    const runs = await withFleet(500, (system) => measureUnchanged(system, 10, isQuick ? 2 : 5))
    const elapsed = runs.map((run) => run.elapsedMs / 1000)
    figures.push({ what: 'no-change apply, 500 nodes × 10 actions', value: median(elapsed), unit: 's', target: { below: 2 }, note: `worst ${Math.max(...elapsed).toPrecision(3)} s; each node looks at its 10 files; server ${Math.round(median(runs.map((run) => run.cpuMs)))} ms of processor time` })
  },
  async fleet() {
    const floor = await readConnectionFloor()
    const size = isQuick ? 1_000 : 5_000
    const name = size.toLocaleString('en')
    // The targets are for five thousand: a fifth of them says nothing about that.
    const targetOf = (below: number): Pick<Figure, 'target'> => (isQuick ? {} : { target: { below } })
    await withFleet(size, async (system) => {
      const { joinMs } = system.fleet
      figures.push({ what: `joining of ${name} agents`, value: joinMs / 1000, unit: 's', note: `${Math.round((size * 1000) / joinMs)}/s; a key, a certificate request and three connections each, made on this machine too` })
      const idle = await measureIdle(system, isQuick ? 10 : 60)
      const floorMiB = ((floor.rssMiB - floor.emptyRssMiB) * size) / 1_000
      figures.push({ what: `${name} idle agents, server resident`, value: idle.rssMiB, unit: 'MiB', ...targetOf(700), floor: { what: 'MiB bare connections', value: floorMiB }, note: 'API, engine, gateway and SQLite in one process' })
      figures.push({ what: `${name} idle agents, share of a core`, value: idle.coreShare * 100, unit: '%', ...targetOf(5), note: 'heartbeats included' })
      const back = await measureComeBack(system, 0)
      figures.push({ what: `${name} agents back after kill -9 of the server`, value: back.elapsedMs / 1000, unit: 's', ...targetOf(60), floor: { what: 's of accepting', value: size / floor.acceptsPerCpuS }, note: `server ${back.cpuMs.toFixed(0)} ms of processor time, ${Math.round(back.rssMiB)} MiB after it; a task with an action in progress on every node succeeded` })
    })
  },
  async postgres() {
    const measured = await measurePostgres(isQuick ? 2 : 6)
    if (measured === undefined) return void figures.push({ what: 'durable completions on PostgreSQL', value: Number.NaN, unit: '/s', note: 'PostgreSQL cannot be run here' })
    const { commits1, commits20, completions } = measured
    figures.push({ what: 'floor: bare PostgreSQL commit, 1 row', value: commits20, unit: '/s', note: `20 connections; on one ${Math.round(commits1)}/s` })
    for (const { together, perSecond } of completions) {
      figures.push({ what: `completions on PostgreSQL, store port, ${together} an append`, value: perSecond, unit: '/s', target: { atLeast: 5000 }, floor: { what: 'bare commits/s', value: commits20 }, note: '50 tasks at once: result, next intent and row of the task' })
    }
    for (const { tasks, components } of [{ tasks: 1, components: 60 }, { tasks: 10, components: 6 }]) {
      const rates = await measurePostgresEndToEnd(50, components, tasks, isQuick ? 1 : 5)
      if (rates) figures.push({ what: `actions on PostgreSQL, end to end, ${tasks === 1 ? 'one task' : `${tasks} tasks at once`}`, value: median(rates), unit: '/s', floor: { what: 'bare commits/s', value: commits20 }, note: '50 simulated agents; planned, signed, sent, answered, recorded; default settings' })
    }
  },
  async simulator({ stream }) {
    const runs = isQuick ? 50 : 1_000
    const { perSecond, perCpuSecond } = await measureSimulator(runs)
    const ownShare = await measureOwnShare(runs)
    figures.push({
      what: 'simulated task-runs, one process', value: perCpuSecond, unit: '/s of a core', target: { atLeast: 200 }, floor: { what: '/s if only what is simulated took time', value: perCpuSecond / ownShare },
      note: `${perSecond}/s of real time; all faults; ${(ownShare * 100).toFixed(0)} % of the time is spent in the packages of Lichen`,
    })
    figures.push({ what: '  messages of an empty gRPC stream that cost as much as one', value: stream / perCpuSecond, unit: '', target: { atMost: referenceStream / 200 }, note: `200/s against the ${referenceStream} messages/s of the machine where the target was set` })
  },
}

/** What is measured only when it is named: it needs root, changes the network of this machine, and takes minutes. Nothing in it is compared with a floor. */
const onDemand: Readonly<Record<string, () => Promise<void>>> = {
  async kubernetes() {
    const reason = skipReason()
    if (reason !== false) return void figures.push({ what: 'Kubernetes by Lichen and by a script', value: Number.NaN, unit: '', note: reason })
    figures.push(...buildOverheadFigures(await makeClusters({ runs: isQuick ? 1 : 2, budgetMs: 560_000, say })))
  },
  async openstack() {
    const reason = skipReason()
    if (reason !== false) return void figures.push({ what: 'OpenStack by Lichen and by a script', value: Number.NaN, unit: '', note: reason })
    figures.push(...buildCloudFigures(await makeClouds({ runs: isQuick ? 1 : 2, looks: 5, say })))
  },
}

/** Messages a second of an empty gRPC stream on the machine on which 200 task-runs a second were asked for. */
const referenceStream = 95_500

interface Floors {
  readonly sqlite: number
  readonly stream: number
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
  return { sqlite, stream, flushMs: flushes.medianMs }
}

let connectionFloor: ConnectionFloor | undefined

/** What a bare gRPC server reaches with a thousand connections; measured when the first figure needs it. */
async function readConnectionFloor(): Promise<ConnectionFloor> {
  if (connectionFloor !== undefined) return connectionFloor
  connectionFloor = await measureConnections(directory)
  const { acceptsPerCpuS, fanOutMs, rssMiB, emptyRssMiB } = connectionFloor
  figures.push({ what: 'floor: accepting mTLS connections', value: acceptsPerCpuS, unit: '/s of a core', note: `with a stream each; ${Math.round((rssMiB - emptyRssMiB) * 1.024)} KiB each` })
  figures.push({ what: 'floor: gRPC fan-out, 1,000 connections', value: fanOutMs, unit: 'ms', note: 'a message down each stream, until all have answered' })
  return connectionFloor
}

/** A server with its defaults and a fleet of its own. */
async function withFleet<T>(size: number, measure: (system: FleetSystem) => Promise<T>): Promise<T> {
  const system = await startFleetSystem(makeDirectory(), size)
  try {
    return await measure(system)
  } finally {
    await system.end()
  }
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
const unknown = names.filter((name) => sections[name] === undefined && onDemand[name] === undefined)
if (unknown.length > 0) {
  say(`no such figure: ${unknown.join(', ')}; there are ${[...Object.keys(sections), ...Object.keys(onDemand)].join(', ')}`)
  process.exit(2)
}
say(`${cpus().length} cores (${cpus()[0]?.model.trim()}), ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()}, Node.js ${process.version}`)
let floors: Floors | undefined
for (const name of names) {
  const section = sections[name]
  if (section !== undefined && floors === undefined) {
    say('floors …')
    floors = await measureFloors()
  }
  say(`${name} …`)
  const before = figures.length
  // What was measured before is not lost with a section that cannot be measured here.
  await (section === undefined ? onDemand[name]!() : section(floors!)).catch((error: unknown) => {
    process.exitCode = 1
    figures.push({ what: name, value: Number.NaN, unit: '', note: `could not be measured: ${error instanceof Error ? error.message : String(error)}` })
  })
  say(buildTable(figures.slice(before)))
}
console.log(buildTable(figures))
