/** What the run asks of the system: plans, each a deployment of its own, and what each of their commands must leave in the ledgers. */
import type { Random } from './random.js'

export type EffectMode = 'unless' | 'creates' | 'flaky' | 'alone' | 'between'

/** A command that writes to the ledger of its node. `once`: nothing can check it. */
export interface Effect {
  readonly mark: string
  readonly command: 'unless' | 'creates' | 'flaky' | 'uncheckable'
  readonly lines: number
}

/** One component as planned: on each node of its group one action `NAME/run@NODE`. */
export interface PlannedComponent {
  readonly name: string
  readonly mode: EffectMode
  readonly nodes: readonly string[]
  readonly after: readonly string[]
  readonly effects: readonly Effect[]
}

export interface PlannedTask {
  /** Name of the deployment, and Idempotency-Key of its submission. */
  readonly deployment: string
  readonly plan: object
  readonly components: readonly PlannedComponent[]
}

/** Nodes to choose from: where `home` (see the blueprints) is the same. `label`: the value of `chaos` that all of them carry. */
export interface NodeSet {
  readonly label: string
  readonly home: string
  readonly nodes: readonly string[]
}

const modes: Readonly<Record<EffectMode, number>> = { unless: 3, creates: 3, flaky: 1, alone: 3, between: 1 }

/** What the component's action must leave behind. */
export function listEffects(mode: EffectMode, mark: string, lines: number): readonly Effect[] {
  if (mode === 'alone') return [{ mark, command: 'uncheckable', lines }]
  if (mode === 'between') return [{ mark: `${mark}.before`, command: 'unless', lines }, { mark, command: 'uncheckable', lines }, { mark: `${mark}.after`, command: 'unless', lines }]
  return [{ mark, command: mode, lines }]
}

/** A component of the plan document, and what is known of it. */
export function buildComponent(input: { readonly deployment: string; readonly name: string; readonly mode: EffectMode; readonly group: string; readonly nodes: readonly string[]; readonly home: string; readonly after: readonly string[]; readonly seconds: number; readonly lines: number }): { readonly document: object; readonly planned: PlannedComponent } {
  const { deployment, name, mode, group, nodes, home, after, seconds, lines } = input
  const mark = `${deployment}.${name}`
  const blueprint = mode === 'alone' || mode === 'between' ? 'chaos-once' : 'chaos-effect'
  return {
    document: { name, blueprint, on: group, with: { home, mark, mode, seconds, lines }, ...(after.length > 0 ? { after } : {}) },
    planned: { name, mode, nodes, after, effects: listEffects(mode, mark, lines) },
  }
}

/** The plan document around these groups and components. */
export const buildPlan = (deployment: string, groups: readonly { readonly name: string; readonly select: Readonly<Record<string, string>> }[], components: readonly object[]): object => ({
  apiVersion: 'lichen.dev/v1', kind: 'DeploymentPlan', metadata: { name: deployment, project: 'chaos' }, nodes: groups, components,
  // What fails on one node says nothing about the others here.
  rollout: { maxFailures: 1000 },
})

/** A plan of two to five components on all nodes of a set or on one of them, some after others, of all kinds of effects; most are short, one in six takes some seconds. */
export function makeRandomPlan(random: Random, deployment: string, sets: readonly NodeSet[]): PlannedTask {
  const set = random.pick(sets)
  const one = random.pick(set.nodes)
  const groups = [{ name: 'all', select: { chaos: set.label } }, { name: 'one', select: { node: one } }]
  const built = Array.from({ length: random.integer(2, 5) }, (_, index) => {
    const isOnAll = random.next() < 0.5
    const earlier = Array.from({ length: index }, (_none, place) => `c${place}`)
    return buildComponent({
      deployment, name: `c${index}`, mode: random.weighted(modes)!, home: set.home,
      group: isOnAll ? 'all' : 'one', nodes: isOnAll ? set.nodes : [one],
      after: earlier.filter(() => random.next() < 0.4),
      seconds: random.next() < 1 / 6 ? random.integer(3, 8) : random.integer(1, 12) / 10,
      lines: random.next() < 0.2 ? random.integer(500, 3000) : random.integer(5, 60),
    })
  })
  const used = new Set(built.map(({ document }) => (document as { on: string }).on))
  return { deployment, plan: buildPlan(deployment, groups.filter(({ name }) => used.has(name)), built.map(({ document }) => document)), components: built.map(({ planned }) => planned) }
}
