import type { Static } from '@sinclair/typebox'
import { findCriticalPath, taskId, waitingFor, type TaskId, type WaitingSurroundings } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named, TaskParams } from '../../schema/fields.js'
import type { TaskReading } from '../../tail/task-views.js'
import { countGates, listGates, listUnknown } from './person-needed.js'
import { TaskDetailSchema } from './task-schemas.js'
import { findTaskBefore } from './task-before.js'
import { unknownTask } from './unknown-task.js'

// What a person looks at before asking for the list of actions.
const waitingShown = 20

/** Registers GET /v1/tasks/{id}. */
export function registerReadTask(app: Api, { store, views, nodes, now }: Context): void {
  app.get(
    '/tasks/:id',
    {
      schema: {
        operationId: 'readTask',
        tags: ['tasks'],
        summary: 'Read a task: state, progress, what it waits for, why it ended',
        description: '`waitingFor` says what the task as a whole waits for, since when, until when and who can help. Where that is a person: `gates` in state `waiting` take POST …/approve, `unknown` takes POST …/settle, a `paused` task POST …/resume.',
        params: TaskParams,
        response: { 200: Named(TaskDetailSchema), ...problemAnswers(400, 404) },
      },
    },
    async (request) => {
      const id = taskId(request.params.id)
      const [records, owners] = await Promise.all([nodes.readRecent(), store.tasks.readOwners([id])])
      const reading = await views.read(id)
      if (reading === undefined) throw unknownTask(id)
      const behind = await findTaskBefore(store, id, reading)
      return describeTask(id, reading, { nodes: new Map(records.map((node) => [node.id, node])), now: now(), behind, engine: owners.get(id) ?? null })
    },
  )
}

interface Surroundings extends WaitingSurroundings {
  readonly engine: string | null
}

function describeTask(id: TaskId, { view, accepted, startedAt, updatedAt }: TaskReading, { engine, ...surroundings }: Surroundings): Static<typeof TaskDetailSchema> {
  const counts = Object.fromEntries(Object.entries(view.counts).filter(([, count]) => count > 0))
  return {
    id, kind: view.kind, project: accepted.project, deployment: accepted.deployment, state: view.state, outcome: view.outcome, reason: view.reason, counts, seq: view.seq,
    createdAt: view.acceptedAt, updatedAt, engine: view.state === 'ended' ? null : engine,
    by: accepted.by, planDigest: accepted.planDigest, previewDigest: view.previewDigest, graphDigest: view.graph?.digest ?? null, actionCount: view.actions.size, unchanged: view.unchanged,
    gates: listGates(view), gateCounts: countGates(view), unknown: listUnknown(view),
    failure: view.failure, problems: [...view.problems],
    waitingFor: waitingFor(view, null, surroundings),
    waiting: view.state === 'ended' ? [] : listWaiting(view, surroundings),
    waitingCount: view.counts.pending + view.counts.sent + view.counts.waitingRetry,
    timing: { acceptedAt: view.acceptedAt, startedAt, endedAt: view.endedAt, durationMs: Math.max(0, (view.endedAt ?? surroundings.now) - view.acceptedAt), criticalPath: findCriticalPath(view) },
  }
}

/** Actions that wait, those at work first, then those whose turn it is, then those that come after others; each in the order of the graph. */
function listWaiting(view: TaskReading['view'], surroundings: WaitingSurroundings): Static<typeof TaskDetailSchema>['waiting'] {
  const ranks: TaskReading['view']['index']['vertices'][number][][] = [[], [], []]
  for (const vertex of view.index.vertices) {
    const { state } = vertex.view
    const rank = state === 'sent' || state === 'waitingRetry' ? 0 : state !== 'pending' ? undefined : vertex.blockers === 0 ? 1 : 2
    if (rank !== undefined && ranks[rank]!.length < waitingShown) ranks[rank]!.push(vertex)
    if (ranks[0]!.length === waitingShown) break
  }
  return ranks
    .flat()
    .slice(0, waitingShown)
    .flatMap(({ view: action }) => {
      const waiting = waitingFor(view, action.id, surroundings)
      return waiting === null ? [] : [{ action: action.id, node: action.node, state: action.state, ...waiting }]
    })
}
