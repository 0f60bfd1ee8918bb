/** The port of tasks over one reading connection and the writer. */
import type { TaskId } from '@lichen/core'
import type { TaskStore } from '../ports/task-store.js'
import { batchReads } from './batched-read.js'
import type { Connection } from './connection.js'
import { appendEvents } from './task-append.js'
import { createTasks } from './task-create.js'
import { claimTasks, releaseTasks, renewLeases } from './task-leases.js'
import { type DeploymentKey, type EventsQuery, findIdempotencyKey, listTasks, listUnowned, readApplied, readEvents, readFootprints, readFront, readLastPlan, readOtherFootprints, readOwners, readSummary, readTasks } from './task-reads.js'
import type { Writer } from './writer.js'

// Each may bring a graph, or twenty thousand events.
const batchLimit = 32

/** Tasks, their events and leases. */
export function openTasks(reader: Connection, writer: Writer): TaskStore {
  const read = batchReads(batchLimit, (tasks: readonly TaskId[]) => readTasks(reader, tasks))
  const events = batchReads(batchLimit, (queries: readonly EventsQuery[]) => readEvents(reader, queries))
  const applied = batchReads(batchLimit, (deployments: readonly DeploymentKey[]) => readApplied(reader, deployments))
  const footprints = batchReads(batchLimit, (deployments: readonly DeploymentKey[]) => readFootprints(reader, deployments))
  return {
    create: (task) => writer.submit(createTasks, task),
    append: async (parts) => (parts.length === 0 ? [] : writer.submit(appendEvents, parts)),
    readEvents: (task, afterSeq, limit) => events({ task, afterSeq, limit }),
    read,
    readSummary: (task) => readSummary(reader, task),
    findIdempotencyKey: (key) => findIdempotencyKey(reader, key),
    list: (query) => listTasks(reader, query),
    claim: (task, engine, now, ttlMs) => writer.submit(claimTasks, { task, engine, now, until: now + ttlMs }),
    renew: async (engine, tasks, now, ttlMs) => (tasks.length === 0 ? new Map() : writer.submit(renewLeases, { engine, tasks, until: now + ttlMs })),
    release: (task, engine) => writer.submit(releaseTasks, { task, engine }),
    readOwners: async (tasks) => (tasks.length === 0 ? new Map() : readOwners(reader, tasks)),
    readApplied: (project, deployment) => applied([project, deployment]),
    readFootprint: (project, deployment) => footprints([project, deployment]),
    readOtherFootprints: (project, deployment) => readOtherFootprints(reader, project, deployment),
    readLastPlan: (project, deployment) => readLastPlan(reader, project, deployment),
    readFront: (project, deployment) => readFront(reader, project, deployment),
    listUnowned: (now, limit) => listUnowned(reader, now, limit),
  }
}
