/** What a run is about: how many of everything, which plans are applied when, and what people do. Made from the seed alone. */
import type { Plan, TaskKind } from '@lichen/core'
import type { Behaviour } from './node/programs.js'
import type { Random } from './random.js'

/** Something that a person does to a task, so long after it was accepted. */
export interface PersonAct {
  readonly afterMs: number
  readonly what: 'cancel' | 'pause' | 'resume' | 'cordon' | 'uncordon'
}

/** One task that a client submits. */
export interface SubmittedTask {
  readonly atMs: number
  readonly kind: TaskKind
  readonly plan: Plan
  readonly acts: readonly PersonAct[]
  /** How often a person retries it when it did not succeed. */
  readonly retries: number
  /** The client asks twice, with the same key, as clients do that got no answer. */
  readonly isRepeated: boolean
}

/** How the operator answers an unknown action. */
export type UnknownAnswer = 'succeeded' | 'failed' | 'runAgain' | 'truth'

export interface Scenario {
  readonly nodes: number
  readonly engines: number
  readonly apis: number
  readonly tasks: readonly SubmittedTask[]
  readonly unknownAnswer: UnknownAnswer
  /** How long a person takes to look at what waits for one. */
  readonly personMs: number
  readonly heartbeatIntervalMs: number
}

/** What the size of a run is drawn from. */
interface Sizes {
  readonly nodes: readonly number[]
  readonly components: readonly number[]
  readonly tasks: readonly number[]
  /** Longest pause before a task of a new deployment, and before one of the same, ms. */
  readonly pausesMs: readonly [number, number]
}

// For the same processor time, faults find as much or more in many small tasks as in a few large ones, and see three times as many tasks through (docs/decisions/0016-simulation.md).
const small: Sizes = { nodes: [1, 1, 1, 2, 2, 3], components: [1, 1, 1, 1, 2, 2], tasks: [4, 6, 8], pausesMs: [1_000, 2_500] }
// Waves over many nodes and graphs with a shape are found here alone.
const large: Sizes = { nodes: [1, 2, 2, 3, 3, 6], components: [1, 2, 2, 3, 4], tasks: [1, 2, 2, 3], pausesMs: [2_000, 5_000] }
const largeShare = 0.15

const nodeNames = (count: number): string[] => Array.from({ length: count }, (_, index) => `node-${index + 1}`)

/** Names of the nodes of a scenario. */
export const nodesOf = (scenario: Pick<Scenario, 'nodes'>): string[] => nodeNames(scenario.nodes)

function makeBehaviour(random: Random): Behaviour {
  return {
    ms: random.pick([10, 40, 200, 800, 3_000]),
    lines: random.pick([0, 1, 2, 6]),
    fails: random.chance(0.15) ? random.integer(1, 3) : 0,
    failsAfter: random.chance(0.5),
    ...(random.chance(0.1) ? { isStubborn: true } : {}),
  }
}

type Component = Plan['components'][number]

function makeComponents(random: Random, count: number, version: number): Component[] {
  const components: Component[] = []
  for (let index = 0; index < count; index++) {
    const name = `c${index + 1}`
    const isOnce = random.chance(0.4)
    const after = components.filter(() => random.chance(0.5)).map((component) => component.name)
    components.push({
      name, blueprint: isOnce ? 'sim-once@^1' : 'sim-service@^1', on: random.chance(0.5) ? 'all' : 'some',
      with: { version: String(version), behaviour: JSON.stringify(makeBehaviour(random)) },
      ...(after.length > 0 ? { after } : {}),
      ...(random.chance(0.12) ? { approve: true } : {}),
    })
  }
  return components
}

function makeRollout(random: Random): Pick<Plan, 'rollout'> {
  if (random.chance(0.4)) return {}
  const waves = random.chance(0.5) ? { waves: random.chance(0.5) ? [{ nodes: 1 }, {}] : [{ nodes: '50%', ...(random.chance(0.3) ? { approve: true } : {}), ...(random.chance(0.3) ? { maxFailures: 1 } : {}) }] } : {}
  return { rollout: { maxParallelNodes: random.integer(1, 4), ...(random.chance(0.4) ? { maxFailures: random.integer(0, 2) } : {}), ...waves } }
}

function makePlan(random: Random, nodes: number, components: number, deployment: string): Plan {
  return {
    apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: deployment },
    nodes: [{ name: 'all' }, { name: 'some', count: random.integer(1, nodes) }],
    components: makeComponents(random, components, 1),
    ...makeRollout(random),
    ...(random.chance(0.15) ? { limits: { ...(random.chance(0.5) ? { queuedS: random.integer(5, 40) } : {}), ...(random.chance(0.7) ? { taskS: random.integer(5, 60) } : {}) } } : {}),
  } as Plan
}

/** The same plan with some components changed: those run again, the others need not. */
function changePlan(plan: Plan, random: Random): Plan {
  return { ...plan, components: plan.components.map((component) => (random.chance(0.3) ? { ...component, with: { ...component.with, version: `${String(component.with?.['version'])}b` } } : component)) }
}

function makeActs(random: Random): PersonAct[] {
  const acts: PersonAct[] = []
  if (random.chance(0.1)) acts.push({ afterMs: random.between(200, 8_000), what: 'cancel' })
  if (random.chance(0.12)) {
    const afterMs = random.between(100, 5_000)
    acts.push({ afterMs, what: 'pause' }, { afterMs: afterMs + random.between(500, 6_000), what: 'resume' })
  }
  if (random.chance(0.08)) {
    const afterMs = random.between(100, 5_000)
    acts.push({ afterMs, what: 'cordon' }, { afterMs: afterMs + random.between(500, 6_000), what: 'uncordon' })
  }
  return acts
}

/** The scenario of this stream of randomness. */
export function makeScenario(random: Random): Scenario {
  const sizes = random.chance(largeShare) ? large : small
  const nodes = random.pick(sizes.nodes)
  const tasks: SubmittedTask[] = []
  const count = random.pick(sizes.tasks)
  let atMs = 0
  for (let index = 0; index < count; index++) {
    const earlier = random.chance(0.6) ? tasks.at(-1)?.plan : undefined
    const plan = earlier === undefined ? makePlan(random, nodes, random.pick(sizes.components), `d${index + 1}`) : random.chance(0.5) ? earlier : changePlan(earlier, random)
    atMs += random.between(0, sizes.pausesMs[earlier === undefined ? 0 : 1])
    tasks.push({ atMs, kind: random.chance(0.08) ? 'check' : 'apply', plan, acts: makeActs(random), retries: random.chance(0.5) ? random.integer(1, 2) : 0, isRepeated: random.chance(0.2) })
  }
  return {
    nodes, engines: random.pick([1, 1, 2, 2, 2, 3]), apis: random.pick([1, 1, 2]), tasks,
    unknownAnswer: random.pick(['succeeded', 'failed', 'runAgain', 'truth', 'truth']),
    personMs: random.between(1_000, 6_000), heartbeatIntervalMs: random.pick([2_000, 5_000]),
  }
}
