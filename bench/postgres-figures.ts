/** PostgreSQL: the bare commits of the machine, and completions of actions made durable through the engine's store port, in a process of its own. */
import pg from 'pg'
import { openScope, startBenchPostgres } from './backends.js'
import { startProgram } from './children.js'
import { makeDirectory } from './floors.js'
import { type FleetSystem, startFleetSystem } from './fleet-figures.js'
import { makePlan, runTask } from './system.js'

/** Single-row commits per second over so many connections at once. */
async function measureCommits(url: string, connections: number, seconds: number): Promise<number> {
  const clients = Array.from({ length: connections }, () => new pg.Client({ connectionString: url }))
  await Promise.all(clients.map((client) => client.connect()))
  await clients[0]!.query('CREATE TABLE IF NOT EXISTS floor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)')
  let count = 0
  const start = performance.now()
  const end = start + seconds * 1000
  await Promise.all(clients.map(async (client) => {
    for (; performance.now() < end; count++) await client.query({ name: 'insert', text: 'INSERT INTO floor (v) VALUES ($1)', values: [`value ${count}`] })
  }))
  const rate = (count * 1000) / (performance.now() - start)
  await Promise.all(clients.map((client) => client.end()))
  return rate
}

export interface PostgresFigures {
  /** Bare single-row commits per second, on one connection and on twenty. */
  readonly commits1: number
  readonly commits20: number
  /** Completions per second through the store port by how many came to one append. */
  readonly completions: readonly { readonly together: number; readonly perSecond: number }[]
}

/** Undefined when there is no PostgreSQL to run. */
export async function measurePostgres(seconds: number): Promise<PostgresFigures | undefined> {
  const scope = openScope()
  try {
    const postgres = await startBenchPostgres(scope)
    if (postgres === undefined) return undefined
    const url = await postgres.makeDatabase()
    const commits1 = await measureCommits(url, 1, seconds / 2)
    const commits20 = await measureCommits(url, 20, seconds / 2)
    const completions = []
    for (const together of [1, 8]) {
      const child = startProgram('completions.ts', [await postgres.makeDatabase(), '50', String(together), String(seconds)])
      completions.push({ together, perSecond: (await child.hear((line) => line.perSecond > 0)).perSecond as number })
      await child.end('SIGTERM')
    }
    return { commits1, commits20, completions }
  } finally {
    await scope.end()
  }
}

/** Actions per second of whole tasks on PostgreSQL, planned, signed, sent to a fleet, answered and recorded: `tasks` at once of `components` no-op actions on each of `nodes`. */
export async function measurePostgresEndToEnd(nodes: number, components: number, tasks: number, runs: number): Promise<number[] | undefined> {
  const scope = openScope()
  let system: FleetSystem | undefined
  try {
    const postgres = await startBenchPostgres(scope)
    if (postgres === undefined) return undefined
    system = await startFleetSystem(makeDirectory(), nodes, { LICHEN_STORE_URL: await postgres.makeDatabase() })
    const { api } = system
    const rates: number[] = []
    for (let run = 0; run <= runs; run++) {
      const start = performance.now()
      await Promise.all(Array.from({ length: tasks }, (_, index) => runTask(api, makePlan(`postgres-${run}-${index}`, 'fleet', 'bench-note@^1', components))))
      if (run > 0) rates.push((nodes * components * tasks * 1000) / (performance.now() - start))
    }
    return rates
  } finally {
    await system?.end()
    await scope.end()
  }
}
