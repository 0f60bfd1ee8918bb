/**
 * Views of tasks for reading: the fold of their events, kept up to date from the store. Owns the most recently used ones.
 *
 * 1. A view shows what was committed before the read began, and is never ahead of the store.
 * 2. Reads of one task run one after the other; a caller uses what it got before it awaits anything, because the next read changes the same view.
 * 3. At most `maxActions` actions are kept, and always the task read last.
 */
import { applyEvents, buildTaskView, type ActionGraph, type RecordedEvent, type TaskEvent, type TaskId, type TrackedTask } from '@lichen/core'
import type { Store } from '@lichen/store'

/** A view with what the events say beside it. */
export interface TaskReading {
  readonly view: TrackedTask
  readonly accepted: Extract<TaskEvent, { type: 'taskAccepted' }>
  /** Of the first order sent; null before. */
  readonly startedAt: number | null
  readonly updatedAt: number
}

export interface TaskViews {
  /** The task as it is now; undefined when there is none. */
  read(task: TaskId): Promise<TaskReading | undefined>
}

interface Entry {
  reading: TaskReading | undefined
  queue: Promise<unknown>
}

// An action takes 2 to 5 KiB with its commands and result: 250 MB at worst, a few MB in ordinary life.
const defaultMaxActions = 50_000

/** Views of the tasks in this store. */
export function buildTaskViews({ store, maxActions = defaultMaxActions }: { readonly store: Pick<Store, 'tasks'>; readonly maxActions?: number }): TaskViews {
  const entries = new Map<TaskId, Entry>()

  async function refresh(task: TaskId, entry: Entry): Promise<TaskReading | undefined> {
    try {
      entry.reading = await readOn(store, task, entry.reading)
      if (entry.reading === undefined) entries.delete(task)
      return entry.reading
    } catch (error) {
      // Whatever half of the events was applied: the next reader folds anew.
      entries.delete(task)
      throw error
    }
  }

  function evict(): void {
    let actions = 0
    for (const entry of entries.values()) actions += entry.reading?.view.actions.size ?? 0
    for (const [task, entry] of entries) {
      if (entries.size <= 1 || (actions <= maxActions && entries.size <= 1_000)) return
      actions -= entry.reading?.view.actions.size ?? 0
      entries.delete(task)
    }
  }

  return {
    async read(task) {
      const entry = entries.get(task) ?? { reading: undefined, queue: Promise.resolve() }
      entries.delete(task)
      entries.set(task, entry)
      const result = entry.queue.then(() => refresh(task, entry))
      entry.queue = result.catch(() => undefined)
      evict()
      return result
    },
  }
}

// A graph changes with a retry, by hand: twice between two reads is bad luck already.
const graphTries = 5

async function readOn(store: Pick<Store, 'tasks'>, task: TaskId, known: TaskReading | undefined, tries = graphTries): Promise<TaskReading | undefined> {
  const events = await store.tasks.readEvents(task, known?.view.seq ?? 0)
  if (events.length === 0) return known
  const digest = newestGraph(events)
  if (digest === undefined) return foldOn(known, events, null)
  // After the events: a graph is stored with the event that says so.
  const graph = (await store.tasks.read(task))?.graph ?? null
  // Another one has taken its place meanwhile: events and graph of the next try belong together.
  return tries > 1 && graph !== null && graph.digest !== digest ? readOn(store, task, known, tries - 1) : foldOn(known, events, graph)
}

/** Digest of the graph that is in force after these events; undefined when they name none. */
function newestGraph(events: readonly RecordedEvent[]): string | undefined {
  let digest: string | undefined
  for (const { event } of events) {
    if (event.type === 'taskPlanned') digest = event.graphDigest
    else if (event.type === 'retryRequested') digest = event.graphDigest ?? digest
  }
  return digest
}

function foldOn(known: TaskReading | undefined, events: readonly RecordedEvent[], graph: ActionGraph | null): TaskReading {
  return describeEvents(known === undefined ? buildTaskView(events, graph) : applyEvents(known.view, events, graph), events, known)
}

function describeEvents(view: TrackedTask, events: readonly RecordedEvent[], known: TaskReading | undefined): TaskReading {
  const first = events[0]?.event
  const accepted = known?.accepted ?? (first as TaskReading['accepted'])
  const startedAt = known?.startedAt ?? events.find(({ event }) => event.type === 'actionSent')?.at ?? null
  return { view, accepted, startedAt, updatedAt: events.at(-1)?.at ?? view.acceptedAt }
}
