import { Type } from '@sinclair/typebox'
import { LichenError, taskId } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named, TaskParams } from '../../schema/fields.js'
import { ActionGraphSchema } from '../previews/action-graph-schema.js'
import { unknownTask } from './unknown-task.js'

/** Registers GET /v1/tasks/{id}/plan and GET /v1/tasks/{id}/graph: the documents of a task, which never change once they are there. */
export function registerReadDocuments(app: Api, { store }: Context): void {
  app.get(
    '/tasks/:id/plan',
    {
      schema: {
        operationId: 'readPlan', tags: ['tasks'], summary: 'Read the plan of a task as it was accepted', params: TaskParams,
        response: { 200: { description: 'The plan.', content: { 'application/json': { schema: Type.Ref('DeploymentPlan#') } } }, ...problemAnswers(400, 404) },
      },
      // The plan is stored as JSON text and goes out as it is.
      serializerCompiler: () => (text) => text as string,
    },
    async (request, reply) => {
      const task = await store.tasks.read(taskId(request.params.id))
      if (task === undefined) throw unknownTask(request.params.id)
      return reply.type('application/json; charset=utf-8').send(task.plan as never)
    },
  )
  app.get(
    '/tasks/:id/graph',
    {
      schema: {
        operationId: 'readGraph', tags: ['tasks'], summary: 'Read the action graph of a task', description: 'What the engine carries out: every action with its commands. 404 before the task is planned.', params: TaskParams,
        response: { 200: Named(ActionGraphSchema), ...problemAnswers(400, 404) },
      },
      serializerCompiler: () => (graph) => JSON.stringify(graph),
    },
    async (request) => {
      const task = await store.tasks.read(taskId(request.params.id))
      if (task === undefined) throw unknownTask(request.params.id)
      if (task.graph === null) throw new LichenError('REQUEST_NOT_FOUND', `task ${request.params.id} has no graph: no engine has planned it${task.summary.state === 'ended' ? ' before it ended' : ' yet'}`)
      return task.graph as never
    },
  )
}
