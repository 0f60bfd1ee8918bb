import { applyEvent, buildTaskView, LichenError, taskId, type TaskEvent, type TaskId } from '@lichen/core'
import type { SummaryChange, TaskSummary } from '@lichen/store'
import type { Api } from '../../schema/type-provider.js'
import { callerOf } from '../../auth/authenticate.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named, TaskParams } from '../../schema/fields.js'
import { appendRequest } from './append-request.js'
import { TaskSchema, toTaskAnswer } from './task-schemas.js'

/** Registers POST /v1/tasks/{id}/retry. */
export function registerRetryTask(app: Api, context: Context): void {
  app.post(
    '/tasks/:id/retry',
    {
      schema: {
        operationId: 'retryTask',
        tags: ['tasks'],
        summary: 'Retry a task from what did not succeed',
        description: 'Actions that succeeded stay as they are; all others start over. 409 unless the task has ended without success.',
        params: TaskParams,
        response: { 202: Named(TaskSchema), ...problemAnswers(400, 404, 409) },
      },
    },
    async (request, reply) => {
      const id = taskId(request.params.id)
      const summary = await retry(context, id, callerOf(request).name)
      await context.audit.append(request, 'retry task', id)
      return reply.code(202).header('location', `/v1/tasks/${id}`).send(toTaskAnswer(summary))
    },
  )
}

function retry(context: Context, id: TaskId, by: string): Promise<TaskSummary> {
  return appendRequest(context, id, async (summary) => {
    if (summary.state !== 'ended') throw new LichenError('REQUEST_CONFLICT', `task ${id} has not ended: it is ${summary.state}`)
    if (summary.outcome === 'succeeded') throw new LichenError('REQUEST_CONFLICT', `task ${id} has succeeded: there is nothing to try again; submit the plan again to check and repair`)
    const event: TaskEvent = { type: 'retryRequested', by }
    return { event, summary: await foldRetry(context, id, event, summary.seq) }
  })
}

/** The row after the retry, from the fold of the task's events: a view of its own, because nothing may be applied that is not recorded. */
async function foldRetry({ store, now }: Context, id: TaskId, event: TaskEvent, seq: number): Promise<SummaryChange> {
  const events = await store.tasks.readEvents(id, 0, seq)
  const view = buildTaskView(events, (await store.tasks.read(id))?.graph ?? null)
  const { state, outcome, reason, counts } = applyEvent(view, { seq: seq + 1, at: now(), event })
  return { state, outcome, reason: `${reason} by ${event.type === 'retryRequested' ? event.by : ''}`, counts: { ...counts } }
}
