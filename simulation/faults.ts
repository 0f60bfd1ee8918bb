/**
 * What goes wrong in a run. Planned from the seed before the run begins, done by the driver: at a time, or right before or after the nth step of a process, which is every
 * point at which it waits. Each fault ends by itself; after the last one everything is as it should be.
 */
import type { Deployment } from './deployment.js'
import type { EngineProcess } from './engine-process.js'
import type { Machine } from './machine.js'
import type { SimNode } from './node/sim-node.js'
import { buildRandom, type Random } from './random.js'
import { nodesOf, type Scenario } from './scenario.js'
import type { Owner } from './scheduler.js'

/** Kinds of faults, as `--faults` names them. */
export const faultKinds = ['engine', 'agent', 'node', 'api', 'store', 'slowstore', 'broker', 'messages', 'partition', 'stream', 'torn', 'slowdisk', 'fulldisk', 'clock', 'stop', 'impostor', 'poison'] as const
export type FaultKind = (typeof faultKinds)[number]

/** When a fault happens: at a time, or around a step of a process. */
export type Moment = { readonly atMs: number } | { readonly step: number; readonly of: string; readonly isBefore: boolean }

/** One fault. */
export interface Fault {
  readonly kind: FaultKind
  readonly target: string
  readonly moment: Moment
  readonly forMs: number
  /** A number that the kind gives a meaning. */
  readonly detail: number
}

/** Plans the faults of a run. */
export type PlanFaults = (random: Random, scenario: Scenario) => Fault[]

const weights: Readonly<Record<FaultKind, number>> = { engine: 6, agent: 6, node: 5, api: 2, store: 3, slowstore: 2, broker: 2, messages: 2, partition: 5, stream: 3, torn: 4, slowdisk: 1, fulldisk: 1, clock: 2, stop: 4, impostor: 1, poison: 1 }

// Most of what happens to a task happens within so long after its submission; later faults would hit what is over.
const windowMs = 10_000
// The same in steps of a process, for a run of one or two tasks.
const windowSteps: Readonly<Record<string, number>> = { engine: 350, agent: 120, api: 60 }
// Each further task is about so much of two: faults and windows grow with the tasks of a run.
const burdenOf = ({ tasks }: Scenario): number => Math.max(1, tasks.length * 0.4)

/** The faults of a run. `kinds`: which of them may be. */
export function planFaults(random: Random, scenario: Scenario, kinds: readonly FaultKind[]): Fault[] {
  const drawn = kinds.flatMap((kind) => Array<FaultKind>(weights[kind]).fill(kind))
  if (drawn.length === 0) return []
  return Array.from({ length: Math.round(random.pick([0, 1, 1, 2, 3, 4, 6]) * burdenOf(scenario)) }, () => planFault(random, scenario, random.pick(drawn)))
}

function planFault(random: Random, scenario: Scenario, kind: FaultKind): Fault {
  const node = random.pick(nodesOf(scenario))
  const engine = `engine-${random.integer(1, scenario.engines)}`
  const api = `api-${random.integer(1, scenario.apis)}`
  const forMs = random.delay(random.pick([300, 2_000, 6_000]))
  const atMs = { atMs: random.between(0, scenario.tasks.at(-1)!.atMs + windowMs) }
  const around = (of: string, steps: number): Moment => (random.chance(0.75) ? { step: random.integer(1, Math.round(steps * burdenOf(scenario))), of, isBefore: random.chance(0.5) } : atMs)
  const detail = random.next()
  const targets: Readonly<Record<FaultKind, readonly [string, Moment]>> = {
    engine: [engine, around(engine, windowSteps['engine']!)],
    agent: [node, around(`agent of ${node}`, windowSteps['agent']!)],
    node: [node, around(`agent of ${node}`, windowSteps['agent']!)],
    api: [api, around(api, windowSteps['api']!)],
    store: ['store', random.chance(0.5) ? atMs : around(engine, windowSteps['engine']!)],
    slowstore: ['store', atMs],
    broker: ['broker', atMs],
    messages: ['broker', { atMs: 0 }],
    partition: [random.pick([engine, node, 'store', 'broker', api]), random.chance(0.5) ? atMs : around(engine, windowSteps['engine']!)],
    stream: [node, random.chance(0.5) ? atMs : around(`agent of ${node}`, windowSteps['agent']!)],
    torn: [node, atMs],
    slowdisk: [node, atMs],
    fulldisk: [node, atMs],
    clock: [random.pick([engine, node, 'outside']), atMs],
    stop: [random.chance(0.7) ? engine : node, random.chance(0.5) ? atMs : around(engine, windowSteps['engine']!)],
    impostor: [engine, atMs],
    poison: ['broker', atMs],
  }
  const [target, moment] = targets[kind]
  return { kind, target, moment, forMs, detail }
}

/** Makes the faults happen. */
export class FaultDriver {
  readonly #deployment: Deployment
  readonly #random: Random
  readonly #steps = new Map<string, number>()
  readonly #bySteps = new Map<string, Fault[]>()
  #after: Fault[] = []
  #underWay = 0

  constructor(deployment: Deployment, faults: readonly Fault[]) {
    this.#deployment = deployment
    const { scheduler, seed } = deployment.around
    this.#random = buildRandom(seed, 'fault details')
    for (const fault of faults) {
      const { moment } = fault
      if ('atMs' in moment) scheduler.at(moment.atMs, undefined, 'fault', () => this.#begin(fault))
      else this.#bySteps.set(moment.of, [...(this.#bySteps.get(moment.of) ?? []), fault])
    }
  }

  /** True while something is not as it should be. */
  get isUnderWay(): boolean {
    return this.#underWay > 0
  }

  /** Before a step. */
  before(owner: Owner | undefined): void {
    const faults = owner && this.#bySteps.get(owner.name)
    if (owner === undefined || faults === undefined) return
    const step = (this.#steps.get(owner.name) ?? 0) + 1
    this.#steps.set(owner.name, step)
    for (const fault of faults) {
      if (!('step' in fault.moment) || fault.moment.step !== step) continue
      if (fault.moment.isBefore) this.#begin(fault)
      else this.#after.push(fault)
    }
  }

  /** After a step and all that followed from it. */
  after(): void {
    if (this.#after.length === 0) return
    const after = this.#after
    this.#after = []
    for (const fault of after) this.#begin(fault)
  }

  #begin(fault: Fault): void {
    const { around } = this.#deployment
    around.note('FAULT', `${fault.kind} ${fault.target} for ${Math.round(fault.forMs)} ms`)
    const undo = this.#do(fault)
    if (undo === undefined) return
    this.#underWay += 1
    around.scheduler.at(around.scheduler.now + fault.forMs, undefined, 'fault over', () => {
      this.#underWay -= 1
      around.note('FAULT', `${fault.kind} ${fault.target} is over`)
      undo()
    })
  }

  #do({ kind, target, detail, forMs }: Fault): (() => void) | undefined {
    const { around, nodes } = this.#deployment
    const engine = this.#deployment.engines.find((one) => one.name === target)
    const node = nodes.get(target)
    const api = this.#deployment.apis.find((one) => one.name === target)
    switch (kind) {
      case 'engine':
        engine?.kill()
        return () => engine?.isWanted && engine.start()
      case 'agent':
        node?.killAgent()
        return () => node?.startAgent()
      case 'node':
        node?.crash()
        return () => node?.powerOn()
      case 'api':
        api?.kill()
        return () => api?.start()
      case 'store':
        around.storeServer.goDown()
        return () => around.storeServer.comeUp()
      case 'slowstore':
        around.storeServer.slowness = 20 + detail * 300
        return () => void (around.storeServer.slowness = 1)
      case 'broker':
        if (detail < 0.4) around.broker.loseEverything()
        around.broker.server.goDown()
        return () => around.broker.comeUp()
      case 'messages':
        Object.assign(around.broker.weather, { duplicate: detail * 0.5, reorder: 0.3, loseMail: detail * 0.3 })
        return () => Object.assign(around.broker.weather, { duplicate: 0, reorder: 0, loseMail: 0 })
      case 'partition':
        return this.#cut(target, detail, forMs)
      case 'stream':
        if (node !== undefined) this.#deployment.connections.breakOne(node.machine)
        return undefined
      case 'torn':
        return node && this.#tear(node, detail, forMs)
      case 'slowdisk':
        if (node) node.disk.weather.slowness = 200
        return () => node && (node.disk.weather.slowness = 1)
      case 'fulldisk':
        return node && fillDisk(node)
      case 'clock':
        return this.#jump(target, detail)
      case 'stop':
        return stopLife(engine ?? node)
      case 'impostor':
        return engine && this.#startImpostor(engine, forMs)
      case 'poison':
        around.broker.inject(`poison-${Math.floor(detail * 1e6)}`, detail < 0.3 ? 'no JSON' : detail < 0.6 ? '{"v":9}' : '{"v":1,"task":"t-nowhere"}')
        return undefined
    }
  }

  /** Cuts the machine off from all others, or from some. */
  #cut(target: string, detail: number, forMs: number): (() => void) | undefined {
    const machine = this.#machineOf(target)
    if (machine === undefined) return undefined
    const { around, engines, nodes, apis, connections } = this.#deployment
    const all = [around.storeServer.machine, around.broker.server.machine, ...engines.map((one) => one.machine), ...apis.map((one) => one.machine), ...[...nodes.values()].map((one) => one.machine)]
    const others = all.filter((other) => other !== machine && (detail < 0.4 || this.#random.chance(0.5)))
    for (const other of others) {
      around.network.cut(machine, other)
      connections.noticeCut(machine, other)
    }
    return () => {
      for (const other of others) {
        around.network.heal(machine, other)
        // A connection without a heartbeat for so long was given up.
        if (forMs > 3_000 && other === around.broker.server.machine) around.broker.reconnect(machine)
        if (forMs > 3_000 && machine === around.broker.server.machine) around.broker.reconnect(other)
      }
    }
  }

  /** In the middle of a write soon: the agent dies, or the machine does. */
  #tear(node: SimNode, detail: number, forMs: number): () => void {
    const { scheduler } = this.#deployment.around
    node.disk.tearAt(1 + Math.floor(detail * 25), () => {
      if (this.#random.chance(0.4)) node.killAgent()
      else node.crash()
      this.#underWay += 1
      scheduler.at(scheduler.now + forMs, undefined, 'fault over', () => {
        this.#underWay -= 1
        node.powerOn()
        node.startAgent()
      })
    })
    return () => node.disk.tearAt(Number.POSITIVE_INFINITY, () => undefined)
  }

  #jump(target: string, detail: number): undefined {
    const machine = this.#machineOf(target)
    const jumpMs = (detail - 0.5) * (this.#random.chance(0.5) ? 8_000 : 200_000)
    if (machine !== undefined) machine.skewMs += jumpMs
    this.#deployment.around.note('FAULT', `the clock of ${target} jumps by ${Math.round(jumpMs)} ms`)
    return undefined
  }

  /** Somebody starts a second engine of the same name elsewhere, as with a copied configuration. */
  #startImpostor(engine: EngineProcess, forMs: number): () => void {
    const impostor = this.#deployment.buildEngine(engine.name, `other-${engine.machine.name}-${Math.floor(forMs)}`)
    this.#deployment.engines.push(impostor)
    impostor.start()
    return () => {
      impostor.remove()
      if (engine.isWanted) engine.start()
    }
  }

  #machineOf(target: string): Machine | undefined {
    const { engines, outside } = this.#deployment
    return target === 'outside' ? outside : (engines.find((one) => one.name === target)?.machine ?? this.#deployment.machineOf(target))
  }
}

function stopLife(process: EngineProcess | SimNode | undefined): (() => void) | undefined {
  const life = process?.life
  if (life?.isAlive !== true) return undefined
  life.stop()
  return () => life.goOn()
}

function fillDisk(node: SimNode): () => void {
  node.disk.weather.isFull = true
  return () => void (node.disk.weather.isFull = false)
}
