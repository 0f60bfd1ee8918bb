/** A task as the API tells it, for tests of what is shown of it. */
import type { Gate, TaskDetail } from '@lichen/cli'

/** A running task that waits for nothing and nobody. */
export const makeDetail = (change: Partial<TaskDetail> = {}): TaskDetail => ({
  id: 't-1', kind: 'apply', project: 'default', deployment: 'shop', state: 'running', outcome: null, reason: '', counts: {}, seq: 1, createdAt: 0, updatedAt: 0,
  engine: 'engine-1', actionCount: 3, unchanged: 0, gates: [], unknown: [], failure: null, problems: [], waitingFor: null, waiting: [], timing: { startedAt: 0, endedAt: null, durationMs: 0, criticalPath: [] },
  ...change,
})

/** A gate that is closed. */
export const makeGate = (id: string, change: Partial<Gate> = {}): Gate => ({ id, component: id.split('/', 1)[0] ?? '', meaning: `wave 2 of 2 of ${id}`, state: 'closed', approve: false, since: 0, approvedBy: null, reason: '', ...change })
