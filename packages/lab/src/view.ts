/** A lab as people see it: what was asked for (the state file) together with what runs (/proc). */
import { findMachine } from './machine.js'
import { buildNodeNames, type LabNames } from './names.js'
import { readState, type LabState, type NodeEntry } from './state.js'

/** A node as it is now. */
export interface LabNode extends NodeEntry {
  readonly state: 'running' | 'booting' | 'stopped'
  /** The node's / as a directory of the host. */
  readonly root: string
  readonly consolePath: string
}

/** A lab as it is now. */
export interface LabView {
  readonly name: string
  readonly bridge: string
  /** The lab's network as CIDR. */
  readonly network: string
  /** The host's address as the nodes see it: where servers for the nodes listen. */
  readonly gateway: string
  /** Proxy of the nodes' apt. */
  readonly packageProxyUrl: string
  readonly nodes: readonly LabNode[]
}

/** The lab as it is now; undefined when it does not exist. @throws LAB_STATE. */
export function viewLab(names: LabNames): LabView | undefined {
  const state = readState(names)
  return state && viewState(names, state)
}

/** The lab with this state as it is now. */
export function viewState(names: LabNames, state: LabState): LabView {
  return {
    name: state.name,
    bridge: names.bridge,
    network: `${state.network}.0/24`,
    gateway: state.gateway,
    packageProxyUrl: `http://${state.gateway}:${state.proxyPort}`,
    nodes: state.nodes.map((node) => viewNode(names, node)),
  }
}

/** A node as it is now. */
export function viewNode(names: LabNames, entry: NodeEntry): LabNode {
  const own = buildNodeNames(names, entry.name, entry.index)
  const { supervisor, leader } = findMachine(own)
  return { ...entry, state: leader ? 'running' : supervisor ? 'booting' : 'stopped', root: own.root, consolePath: own.consolePath }
}
