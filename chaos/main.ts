/**
 * `npm run chaos [-- --kills N] [-- --seed N] [-- --only storm|points] [-- --bounded]`: kills everything that can be killed while plans run, then compares what was reported with what
 * happened; then kills agent and server at each of their durable writes in turn. Exit code 1 when a check is broken.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { withRunDirectory } from './leftovers.js'
import { openLoopback } from './network.js'
import { runPoints, type PointResult } from './points.js'
import { buildTollTable, describeChecks, describeTasks } from './report.js'
import { runChaos } from './run.js'

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '200' }, seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6)) }, agents: { type: 'string', default: '6' }, seconds: { type: 'string', default: '0' },
    'pace-ms': { type: 'string', default: '1500' }, 'submit-ms': { type: 'string', default: '1500' },
    only: { type: 'string' }, bounded: { type: 'boolean', default: false }, points: { type: 'string', default: '' }, parallel: { type: 'string', default: '3' }, json: { type: 'string' },
  },
})
const { seed, kills, agents, seconds, 'pace-ms': paceMs, 'submit-ms': submitMs } = values
// Bounded: what fits in a test; without the systemd-nspawn machine, and of the scaled-out system's durable writes only those that no single server has.
const isFull = !values.bounded
const abort = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => abort.abort(new Error(`stopped by ${signal}`)))
const say = (line: string): void => void process.stderr.write(`${line}\n`)

/** What a program that started this one reads: every check and point with what is wrong. */
interface Report {
  readonly title: string
  readonly problems: readonly string[]
}

async function storm(): Promise<readonly Report[]> {
  const command = `npm run chaos -- --only storm --seed ${seed} --kills ${kills} --agents ${agents} --seconds ${seconds} --pace-ms ${paceMs} --submit-ms ${submitMs}${isFull ? '' : ' --bounded'}`
  say(command)
  const { toll, faults, evidence, results, points: pointResults, keptDirectory, isCuttable } = await runChaos({
    seed: Number(seed), kills: Number(kills), agents: Number(agents), hasMachine: isFull && process.getuid?.() === 0, hasAllPoints: isFull, atLeastMs: Number(seconds) * 1000, paceMs: Number(paceMs), submitEveryMs: Number(submitMs), say, signal: abort.signal,
  })
  const killsOf = (victim: string, harm: string): number => faults.find((fault) => fault.victim === victim && fault.harm === harm)?.kills ?? 0
  console.log(`\n${buildTollTable(toll, killsOf)}\n\n${describeTasks(evidence)}\n\n${describeChecks(results)}`)
  for (const { point, problems } of pointResults.filter(({ problems: found }) => found.length > 0)) console.log(`BROKEN ${point}: ${problems.join('; ')}`)
  if (!isCuttable) console.log('\nNOT ROOT: no partitions, no full disks and no systemd-nspawn machine in this run')
  if (keptDirectory !== undefined) console.log(`\nlogs, ledgers and report.ndjson: ${keptDirectory}\nthe same choices again: ${command}`)
  return [...results.map(({ number, name, problems }) => ({ title: `${number} ${name}`, problems })), ...pointResults.map(({ point, problems }) => ({ title: point, problems })), { title: `${toll.kills} kills`, problems: toll.kills >= Number(kills) ? [] : ['fewer than asked for'] }]
}

async function points(): Promise<readonly Report[]> {
  const startedAt = Date.now()
  const { results, place } = await withRunDirectory<{ results: readonly PointResult[]; place: string }>(abort.signal, async ({ path }, teardown) => {
    const found = await runPoints({ directory: path, network: openLoopback(), only: values.points, hasBothSides: isFull, seed: Number(seed), parallel: Number(values.parallel), teardown, say, signal: abort.signal })
    return { value: { results: found, place: path }, isKept: found.some(({ problems }) => problems.length > 0) }
  })
  const broken = results.filter(({ problems }) => problems.length > 0)
  console.log(`\n${results.length} durable writes, before or after each the program was killed: ${broken.length} broken (${((Date.now() - startedAt) / 1000).toFixed(0)} s)`)
  for (const { point, problems } of broken) console.log(`BROKEN ${point}\n${problems.map((problem) => `          ${problem}`).join('\n')}\n          again: npm run chaos -- --only points --points '${point}'`)
  if (broken.length > 0) console.log(`logs and ledgers: ${place}`)
  return results.map(({ point, problems }) => ({ title: point, problems }))
}

try {
  const reports = [...(values.only === 'points' ? [] : await storm()), ...(values.only === 'storm' ? [] : await points())]
  if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(reports))
  process.exitCode = reports.length > 0 && reports.every(({ problems }) => problems.length === 0) ? 0 : 1
} catch (error) {
  say(`${error instanceof Error ? error.message : String(error)}\nseed ${seed}`)
  // Of a fault in the checks themselves the message alone says nothing.
  if (error instanceof Error && error.cause instanceof Error) console.log(error.cause.stack)
  process.exitCode = 1
}
// Connections that are kept alive would keep this program for some seconds.
process.exit()
