/** A whole simulated deployment: store, broker, APIs, engines, nodes, and the wires between them. */
import { buildSimCatalog } from './catalog.js'
import { ApiProcess } from './api-process.js'
import { engineLimits, EngineProcess } from './engine-process.js'
import { beginning, Machine } from './machine.js'
import { Connections } from './node/connection.js'
import { Ledger } from './node/ledger.js'
import type { Invariants } from './invariants.js'
import { SimNode } from './node/sim-node.js'
import { buildRandom } from './random.js'
import { nodesOf, type Scenario } from './scenario.js'
import type { Surroundings } from './surroundings.js'

// Compiled once: every run has the same catalog.
const catalog = buildSimCatalog()

/** See the file header. */
export class Deployment {
  readonly around: Surroundings
  readonly scenario: Scenario
  readonly ledger: Ledger
  readonly connections: Connections
  readonly nodes: ReadonlyMap<string, SimNode>
  readonly engines: EngineProcess[]
  readonly apis: readonly ApiProcess[]
  /** Where people and their clients sit. */
  readonly outside = new Machine('outside')

  constructor(around: Surroundings, scenario: Scenario, invariants: Invariants) {
    this.around = around
    this.scenario = scenario
    this.ledger = new Ledger({
      happened: (entry) => {
        around.note(entry.node, `EFFECT ${entry.key} by ${entry.run}, ${entry.count} now`)
        invariants.happened(entry)
      },
      ranTwice: (node, key, runs) => invariants.ranTwice(node, key, runs),
    })
    this.connections = new Connections({
      scheduler: around.scheduler, network: around.network, random: buildRandom(around.seed, 'connections'),
      findGateway: (address) => this.engines.find((engine) => engine.address === address)?.listening,
      observer: invariants,
      findMachine: (address) => this.engines.find((engine) => engine.address === address)?.machine,
    })
    this.engines = Array.from({ length: scenario.engines }, (_, index) => this.buildEngine(`engine-${index + 1}`, `host-${index + 1}`))
    const gateways = (): string[] => this.engines.filter((engine) => engine.isWanted).map((engine) => engine.address)
    this.nodes = new Map(nodesOf(scenario).map((name) => [name, new SimNode(name, around, this.connections, this.ledger, gateways)]))
    this.apis = Array.from({ length: scenario.apis }, (_, index) => new ApiProcess(`api-${index + 1}`, around))
  }

  buildEngine(name: string, machine: string): EngineProcess {
    const { heartbeatIntervalMs } = this.scenario
    return new EngineProcess(name, machine, { around: this.around, connections: this.connections, catalog, limits: { ...engineLimits, heartbeatIntervalMs } })
  }

  /** The machine of this name. */
  machineOf(name: string): Machine | undefined {
    return [this.around.storeServer.machine, this.around.broker.server.machine, ...this.engines.map((engine) => engine.machine), ...this.apis.map((api) => api.machine), ...[...this.nodes.values()].map((node) => node.machine)].find((machine) => machine.name === name)
  }

  /** Registers the nodes, and starts every process. */
  start(): void {
    const { nodes } = this.around.database
    const token = { id: 'jt', secretDigest: 'x', labels: {}, usesLeft: null, expiresAt: Number.MAX_SAFE_INTEGER, createdAt: beginning, createdBy: 'simulator' }
    nodes.putJoinToken(token)
    for (const node of this.nodes.values()) {
      nodes.admitNode({ tokenId: token.id, secretDigest: token.secretDigest, node: node.id, labels: { zone: Number(node.id.slice(-1)) % 2 ? 'odd' : 'even' }, keyDigest: node.keyDigest, agentVersion: '0.1.0', now: beginning })
    }
    for (const engine of this.engines) engine.start()
    for (const api of this.apis) api.start()
    for (const node of this.nodes.values()) node.startAgent()
  }
}
