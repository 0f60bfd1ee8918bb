import type { EngineStore } from './ports/engine-store.js'
import type { LogStore } from './ports/log-store.js'
import type { NodeStore } from './ports/node-store.js'
import type { SecretStore } from './ports/secret-store.js'
import type { OutboxStore, TaskStore } from './ports/task-store.js'

/** All ports over one database. `changed` tells listeners in this process that something was committed (tails wake up on it). */
export interface Store {
  readonly tasks: TaskStore
  readonly outbox: OutboxStore
  readonly nodes: NodeStore
  readonly engines: EngineStore
  readonly logs: LogStore
  readonly secrets: SecretStore
  /** Calls back after commits of events or log bytes of the task made through this store, and at least each 250 ms while another process may write. Gives back the unsubscribe function. */
  watchTask(task: string, listener: () => void): () => void
  /** Resolves when the database answers. @throws STORE_UNAVAILABLE */
  ping(): Promise<void>
  close(): Promise<void>
}
