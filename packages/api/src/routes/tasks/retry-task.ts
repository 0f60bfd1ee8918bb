import { Type, type Static } from '@sinclair/typebox'
import { applyEvent, buildTaskView, LichenError, nodeId, summarizeTask, taskId, type TaskId, type TaskRequest } from '@lichen/core'
import type { TaskSummary } from '@lichen/store'
import type { Api } from '../../schema/type-provider.js'
import { callerOf } from '../../auth/authenticate.js'
import { fillMissingBody } from '../../body/optional-body.js'
import type { Context } from '../../context.js'
import { buildChangedPlan } from '../../planning/changed-plan.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named, NodeIdText, TaskParams } from '../../schema/fields.js'
import { appendRequest, type Change } from './append-request.js'
import { eventFor } from './ask-task.js'
import { findNewerTask } from './newer-task.js'
import { TaskSchema, toTaskAnswer } from './task-schemas.js'

const Body = Type.Object(
  {
    nodes: Type.Optional(Type.Array(NodeIdText, { minItems: 1, maxItems: 10_000, uniqueItems: true, description: 'Only actions on these nodes; those on others stay as they are. Default: all nodes.' })),
    parameters: Type.Optional(
      Type.Record(Type.String(), Type.Record(Type.String(), Type.Unknown()), {
        description: 'New parameters by component: each takes the place of the one in the plan, null takes it away. Only actions that have not succeeded may change by it.',
        examples: [{ keystone: { workers: 4 } }],
      }),
    ),
  },
  { additionalProperties: false, examples: [{}, { nodes: ['node-7'] }, { parameters: { keystone: { workers: 4 } } }] },
)

/** Registers POST /v1/tasks/{id}/retry. */
export function registerRetryTask(app: Api, context: Context): void {
  app.post(
    '/tasks/:id/retry',
    {
      preValidation: fillMissingBody as never,
      schema: {
        operationId: 'retryTask',
        tags: ['tasks'],
        summary: 'Retry a task from what did not succeed',
        description:
          'Actions that succeeded stay as they are; all others, or those on `nodes`, start over. 409 `TASK_NOT_ENDED` while it runs, `TASK_NOTHING_TO_RETRY` when everything succeeded, `TASK_SUPERSEDED` when a newer task of its deployment would be undone by it. ' +
          'With `parameters` the plan of the task changes for good; 409 `TASK_INPUTS_MOVED` when that would change what has succeeded, or which actions there are: apply the changed plan anew instead.',
        params: TaskParams,
        body: Body,
        response: { 202: Named(TaskSchema), ...problemAnswers(400, 404, 409, 422) },
      },
    },
    async (request, reply) => {
      const id = taskId(request.params.id)
      const summary = await retry(context, id, callerOf(request).name, request.body)
      await context.audit.append(request, 'retry task', id, describeRetry(request.body))
      return reply.code(202).header('location', `/v1/tasks/${id}`).send(toTaskAnswer(summary))
    },
  )
}

// Values may be long, or nobody's business; the names say what was changed.
const describeRetry = ({ nodes, parameters }: Static<typeof Body>): string =>
  [nodes && `on ${nodes.join(', ')}`, parameters && `with new ${Object.entries(parameters).flatMap(([component, values]) => Object.keys(values).map((name) => `${component}.${name}`)).join(', ')}`].filter(Boolean).join('; ')

function retry(context: Context, id: TaskId, by: string, { nodes, parameters }: Static<typeof Body>): Promise<TaskSummary> {
  const asked: Retry = { type: 'retry', by, ...(nodes === undefined ? {} : { nodes: nodes.map(nodeId) }) }
  return appendRequest(context, id, async (view) => {
    // Whether it can be retried at all, before its documents are read.
    if (eventFor(view, asked) === null) return undefined
    const { seq, kind, graph, previewDigest, operation } = view
    const row = await context.store.tasks.read(id)
    if (row?.summary.seq !== seq) return 'again'
    const newer = await findNewerTask(context.store, row.summary)
    if (newer !== undefined) throw new LichenError('TASK_SUPERSEDED', `task ${newer} of deployment ${row.summary.deployment} came after ${id}, and would be undone; retry that one, or apply the plan anew`)
    const changed = parameters === undefined ? {} : await buildChangedPlan(context, { kind, plan: row.plan, graph, previewDigest, operation }, parameters)
    return foldRetry(context, row, asked, changed)
  })
}

type Retry = Extract<TaskRequest, { type: 'retry' }>
type Row = NonNullable<Awaited<ReturnType<Context['store']['tasks']['read']>>>

/** The event with the row after it, from the fold of the task's events: a view of its own, because nothing may be applied that is not recorded. */
async function foldRetry({ store, now }: Context, { summary: { id, seq }, graph: before }: Row, asked: Retry, { plan, graph }: Pick<Change, 'plan' | 'graph'>): Promise<Change | undefined> {
  const view = buildTaskView(await store.tasks.readEvents(id, 0, seq), before)
  const event = eventFor(view, { ...asked, ...(graph && { graph }) })
  if (event === null) return undefined
  const summary = summarizeTask(applyEvent(view, { seq: seq + 1, at: now(), event }, graph ?? null))
  return { event, summary, ...(plan && { plan }), ...(graph && { graph }) }
}
