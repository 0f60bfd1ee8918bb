/** The port of tasks over reader and writer. */
import type { TaskStore } from '../ports/task-store.js'
import type { Reader } from './reader.js'
import { appendEvents } from './task-append.js'
import { createTasks } from './task-create.js'
import { claimTasks, releaseTasks, renewLeases } from './task-leases.js'
import { findIdempotencyKey, listTasks, listUnowned, readApplied, readEvents, readFootprint, readFront, readLastPlan, readOtherFootprints, readOwners, readSummary, readTask } from './task-reads.js'
import type { Writer } from './writer.js'

/** Tasks, their events and leases. */
export function openTasks(reader: Reader, writer: Writer): TaskStore {
  return {
    create: (task) => writer.submit(createTasks, task),
    append: async (parts) => (parts.length === 0 ? [] : writer.submit(appendEvents, parts)),
    readEvents: (task, afterSeq, limit) => readEvents(reader, task, afterSeq, limit),
    read: (task) => readTask(reader, task),
    readSummary: (task) => readSummary(reader, task),
    findIdempotencyKey: (key) => findIdempotencyKey(reader, key),
    list: (query) => listTasks(reader, query),
    claim: (task, engine, now, ttlMs) => writer.submit(claimTasks, { task, engine, now, until: now + ttlMs }),
    renew: async (engine, tasks, now, ttlMs) => (tasks.length === 0 ? new Map() : writer.submit(renewLeases, { engine, tasks, until: now + ttlMs })),
    release: (task, engine) => writer.submit(releaseTasks, { task, engine }),
    readOwners: async (tasks) => (tasks.length === 0 ? new Map() : readOwners(reader, tasks)),
    readApplied: (project, deployment) => readApplied(reader, project, deployment),
    readFootprint: (project, deployment) => readFootprint(reader, project, deployment),
    readOtherFootprints: (project, deployment) => readOtherFootprints(reader, project, deployment),
    readLastPlan: (project, deployment) => readLastPlan(reader, project, deployment),
    readFront: (project, deployment) => readFront(reader, project, deployment),
    listUnowned: (now, limit) => listUnowned(reader, now, limit),
  }
}
