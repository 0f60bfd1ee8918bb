/** `npm run simulate`: runs seeds, says how fast, and tells all that is needed of the first that breaks an invariant. */
import { availableParallelism } from 'node:os'
import { fork } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type FaultKind, faultKinds } from './faults.js'
import { stopwatch } from './real.js'
import { runSeed } from './run.js'
import { type Protection, type Sabotage, sabotages } from './sabotage.js'

const usage = `npm run simulate -- [options]

  --seed N            first seed (default: a random one)
  --runs M            how many seeds, from there (default: 100)
  --faults a,b        kinds of faults that may happen, or none (default: ${faultKinds.join(',')})
  --transcript FILE   writes what happened in the last run, line by line
  --jobs N            processes beside each other (default: 1)
  --sabotage NAME     turns a protection off: ${Object.keys(sabotages).join(', ')}
  --keep-going        goes on after a failure, and counts them
`

interface Options {
  readonly seed: number
  readonly runs: number
  readonly faults: readonly FaultKind[]
  readonly transcript: string | undefined
  readonly jobs: number
  readonly sabotage: Sabotage | undefined
  readonly keepsGoing: boolean
}

interface Totals {
  runs: number
  taskRuns: number
  events: number
  virtualMs: number
  /** Processor time of the process that ran them, its start included. */
  cpuMs: number
  failures: { readonly seed: number; readonly message: string }[]
}

function refuse(why: string): never {
  process.stderr.write(`${why}\n\n${usage}`)
  process.exit(2)
}

function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seed: { type: 'string' }, runs: { type: 'string' }, faults: { type: 'string' }, transcript: { type: 'string' }, jobs: { type: 'string' }, sabotage: { type: 'string' }, 'keep-going': { type: 'boolean' }, help: { type: 'boolean' },
    },
  })
  if (values.help) {
    process.stdout.write(usage)
    process.exit(0)
  }
  const count = (name: 'seed' | 'runs' | 'jobs', otherwise: number): number => {
    const given = values[name]
    if (given === undefined) return otherwise
    if (!/^\d{1,15}$/.test(given)) refuse(`--${name} must be a number; found ${given}`)
    return Number(given)
  }
  const faults = values.faults === undefined ? faultKinds : values.faults.split(',').filter((kind) => kind !== '' && kind !== 'none')
  for (const kind of faults) if (!(faultKinds as readonly string[]).includes(kind)) refuse(`there are no faults of the kind ${kind}`)
  if (values.sabotage !== undefined && !(values.sabotage in sabotages)) refuse(`there is no protection called ${values.sabotage}`)
  return {
    seed: count('seed', Math.floor(Math.random() * 1e9)), runs: count('runs', 100), jobs: Math.min(count('jobs', 1), availableParallelism()), faults: faults as readonly FaultKind[],
    transcript: values.transcript, sabotage: values.sabotage as Sabotage | undefined, keepsGoing: values['keep-going'] === true,
  }
}

async function runAll({ seed, runs, faults, sabotage, keepsGoing, transcript }: Options): Promise<Totals> {
  const protection: Protection | undefined = sabotage && sabotages[sabotage]
  const totals: Totals = { runs: 0, taskRuns: 0, events: 0, virtualMs: 0, cpuMs: 0, failures: [] }
  for (let next = seed; next < seed + runs; next++) {
    const result = await runSeed({ seed: next, faults: protection?.faults ?? faults, sabotage, keepsLines: transcript !== undefined && next === seed + runs - 1 })
    totals.runs += 1
    totals.taskRuns += result.taskRuns
    totals.events += result.events
    totals.virtualMs += result.virtualMs
    if (result.lines.length > 0 && transcript !== undefined) writeFileSync(transcript, result.lines.join(''))
    if (result.broken === undefined) continue
    totals.failures.push({ seed: next, message: result.broken.message })
    if (!keepsGoing) break
  }
  const { user, system } = process.cpuUsage()
  totals.cpuMs = (user + system) / 1000
  return totals
}

/** The same seeds in several processes, each with a part of them. */
async function runBeside(options: Options): Promise<Totals> {
  const share = Math.ceil(options.runs / options.jobs)
  const parts = Array.from({ length: options.jobs }, (_, index) => ({ ...options, seed: options.seed + index * share, runs: Math.min(share, options.runs - index * share) })).filter((part) => part.runs > 0)
  const totals = await Promise.all(parts.map((part) => new Promise<Totals>((resolve, reject) => {
    const child = fork(import.meta.filename, [], { execArgv: process.execArgv })
    child.once('message', (message) => resolve(message as Totals))
    child.once('exit', (code) => reject(new Error(`a process of the simulator ended with ${code}`)))
    child.send(part)
  })))
  return totals.reduce((sum, one) => ({ runs: sum.runs + one.runs, taskRuns: sum.taskRuns + one.taskRuns, events: sum.events + one.events, virtualMs: sum.virtualMs + one.virtualMs, cpuMs: sum.cpuMs + one.cpuMs, failures: [...sum.failures, ...one.failures] }))
}

async function tell(options: Options, { runs, taskRuns, events, virtualMs, cpuMs, failures }: Totals, realMs: number): Promise<void> {
  const rate = (count: number, ms: number): string => ((count / ms) * 1000).toFixed(0)
  process.stdout.write(`${runs} seeds, ${taskRuns} task runs (a task from its submission, or its retry, to its end) in ${(realMs / 1000).toFixed(1)} s: ${rate(taskRuns, realMs)} task runs a second, ${rate(taskRuns, cpuMs)} task runs a second of one core (${(cpuMs / 1000).toFixed(1)} s of processor time); ${events} steps, ${(virtualMs / 3_600_000).toFixed(1)} hours of virtual time\n`)
  const [first] = failures
  if (first === undefined) return
  const again = `npm run simulate -- --seed ${first.seed} --runs 1${options.faults.length === faultKinds.length ? '' : ` --faults ${options.faults.join(',') || 'none'}`}${options.sabotage === undefined ? '' : ` --sabotage '${options.sabotage}'`}`
  const protection: Protection | undefined = options.sabotage && sabotages[options.sabotage]
  const { lines } = await runSeed({ seed: first.seed, faults: protection?.faults ?? options.faults, sabotage: options.sabotage, keepsLines: true })
  if (options.transcript !== undefined) writeFileSync(options.transcript, lines.join(''))
  process.stdout.write(`\n${lines.slice(-40).join('')}\nseed ${first.seed}: ${first.message}\n\nagain, with all of it in a file:\n  ${again} --transcript /tmp/seed-${first.seed}.txt\n`)
  if (failures.length > 1) process.stdout.write(`\n${failures.length} seeds failed: ${failures.map((failure) => failure.seed).join(', ')}\n`)
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2))
  const startedAt = stopwatch()
  const totals = options.jobs > 1 && options.runs > 1 ? await runBeside(options) : await runAll(options)
  await tell(options, totals, stopwatch() - startedAt)
  process.exitCode = totals.failures.length === 0 ? 0 : 1
}

if (process.send === undefined) await main()
else process.once('message', (options) => void runAll(options as Options).then((totals) => process.send!(totals, () => process.exit(0))))
