/** The database of a simulated deployment: all tables, and who watches them. */
import type { RecordedEvent } from '@lichen/core'
import type { PlacedChunk } from '../../packages/store/dist/rules/log-rules.js'
import { EngineTables, LogTables, NodeTables, SecretTables } from './others.js'
import { type CommitListener, TaskTables } from './tasks.js'

/** What is told of each commit, in the order of commits. */
export interface DatabaseListener extends CommitListener {
  stored(placed: PlacedChunk): void
}

/** See the file header. */
export class Database {
  readonly tasks: TaskTables
  readonly nodes = new NodeTables()
  readonly engines = new EngineTables()
  readonly logs: LogTables
  readonly secrets = new SecretTables()
  readonly #watchers = new Map<string, Set<() => void>>()

  constructor(listener: DatabaseListener = { created: () => undefined, appended: () => undefined, claimed: () => undefined, stored: () => undefined }) {
    this.tasks = new TaskTables({
      created: (task) => {
        listener.created(task)
        this.#wake(task.id)
      },
      appended: (part, recorded: readonly RecordedEvent[], summary) => {
        listener.appended(part, recorded, summary)
        this.#wake(part.task)
      },
      claimed: (lease, engine, now) => listener.claimed(lease, engine, now),
    })
    this.logs = new LogTables((placed) => {
      listener.stored(placed)
      this.#wake(placed.chunk.task)
    })
  }

  /** Calls back at each commit that touches the task, until the function that is given back is called. */
  watch(task: string, listener: () => void): () => void {
    const ofTask = this.#watchers.get(task) ?? new Set()
    this.#watchers.set(task, ofTask)
    ofTask.add(listener)
    return () => ofTask.delete(listener)
  }

  #wake(task: string): void {
    for (const listener of this.#watchers.get(task) ?? []) listener()
  }
}
