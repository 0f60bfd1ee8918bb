/** One run: everything that follows from one seed. */
import { Deployment } from './deployment.js'
import { type Fault, FaultDriver, type FaultKind, faultKinds, planFaults, type PlanFaults } from './faults.js'
import { type BrokenInvariant, Invariants } from './invariants.js'
import { People } from './people.js'
import { buildRandom } from './random.js'
import { forbidReality } from './real.js'
import { type Sabotage, turnOff } from './sabotage.js'
import { makeScenario } from './scenario.js'
import { Database } from './store/database.js'
import { Surroundings } from './surroundings.js'
import { buildTranscript, type Transcript } from './transcript.js'

export interface RunOptions {
  readonly seed: number
  /** Keep the lines of the transcript, not only their digest. */
  readonly keepsLines?: boolean
  /** Kinds of faults that may happen, or the faults themselves. Default: all kinds. */
  readonly faults?: readonly FaultKind[] | PlanFaults | undefined
  /** A protection that is turned off. */
  readonly sabotage?: Sabotage | undefined
}

export interface RunResult {
  readonly seed: number
  readonly digest: string
  readonly lines: readonly string[]
  readonly events: number
  readonly virtualMs: number
  /** How often a task came to its end in the store: once for each task, and once more for each retry of it. */
  readonly taskRuns: number
  readonly faults: readonly Fault[]
  readonly broken: BrokenInvariant | undefined
}

// Long after the last fault: what has not ended by then will not end.
const longestMs = 400_000
// What follows the end of the last task: acknowledgements, and programs that were told to end.
const afterwardsMs = 60_000

/** Runs the seed. */
export async function runSeed({ seed, keepsLines = false, faults: kinds = faultKinds, sabotage }: RunOptions): Promise<RunResult> {
  const transcript = buildTranscript(keepsLines)
  const invariants = new Invariants()
  const allow = forbidReality((what) => invariants.fail(13, `looked at the real world: ${what}`))
  try {
    const driver: { faults?: FaultDriver; taskRuns: number } = { taskRuns: 0 }
    const around = buildSurroundings(seed, transcript, invariants, driver)
    const scenario = makeScenario(buildRandom(seed, 'scenario'))
    const deployment = new Deployment(around, scenario, invariants)
    const faults = typeof kinds === 'function' ? kinds(buildRandom(seed, 'faults'), scenario) : planFaults(buildRandom(seed, 'faults'), scenario, kinds)
    driver.faults = new FaultDriver(deployment, faults)
    const people = new People(deployment, buildRandom(seed, 'people'), (task, view) => invariants.looked(task, view))
    invariants.watch(deployment, people)
    if (sabotage !== undefined) turnOff(deployment, sabotage)
    deployment.start()
    people.start()
    const isBroken = (): boolean => invariants.broken !== undefined || around.defects.length > 0
    const isDone = (): boolean => people.areDone && driver.faults?.isUnderWay !== true
    let ending = await around.scheduler.run(longestMs, () => isBroken() || isDone())
    // A request that was given up may still arrive, and wake a task that had ended.
    for (let isQuiet = false; ending === 'stopped' && !isQuiet && !isBroken(); ) {
      await around.scheduler.run(around.scheduler.now + afterwardsMs, () => isBroken() || !isDone() || isIdle(deployment))
      isQuiet = isDone()
      if (!isQuiet) ending = await around.scheduler.run(longestMs, () => isBroken() || isDone())
    }
    if (around.defects.length > 0) invariants.fail(13, around.defects.join('\n  '))
    if (!isBroken()) invariants.atTheEnd(ending)
    return { seed, digest: transcript.digest(), lines: transcript.lines, events: around.scheduler.events, virtualMs: around.scheduler.now, taskRuns: driver.taskRuns, faults, broken: invariants.broken }
  } finally {
    allow()
  }
}

const isIdle = (deployment: Deployment): boolean => [...deployment.nodes.values()].every((node) => node.programs.running === 0)

function buildSurroundings(seed: number, transcript: Transcript, invariants: Invariants, driver: { readonly faults?: FaultDriver; taskRuns: number }): Surroundings {
  const around: Surroundings = new Surroundings(
    seed, transcript,
    {
      before: (owner, label) => {
        transcript.line(around.scheduler.now, owner?.name ?? '-', label)
        driver.faults?.before(owner)
      },
      after: () => driver.faults?.after(),
    },
    () =>
      new Database({
        created(task) {
          around.note('store', `created ${task.id}`)
          invariants.created(task)
        },
        appended(part, recorded, row) {
          for (const { seq, event } of recorded) around.note('store', `${part.task} ${seq} ${event.type}${'action' in event ? ` ${event.action}` : ''}${'attempt' in event ? ` ${event.attempt}` : ''}${'result' in event ? ` ${event.result.outcome} ${event.result.failure?.code ?? ''}` : ''}${'reason' in event ? `: ${event.reason}` : ''}`)
          for (const { event } of recorded) if (event.type === 'taskEnded') driver.taskRuns += 1
          invariants.appended(part, recorded, row)
        },
        claimed(lease, engine) {
          around.note('store', `${lease.task} epoch ${lease.epoch} is of ${engine.instance}`)
          invariants.claimed(lease, engine)
        },
        stored: () => undefined,
      }),
  )
  return around
}
