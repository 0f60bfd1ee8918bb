import { Type } from '@sinclair/typebox'
import { countGraph } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { buildGraphNow, findPlanProblems } from '../../planning/checked-plan.js'
import { rejectPlan } from '../../planning/plan-input.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { planBody } from '../../schema/plan-body.js'
import { planRoute } from '../plan-route.js'
import { readTaskRequest, TaskRequestQuery, TaskRequestSchema } from '../tasks/task-request.js'

/** Registers POST /v1/previews. */
export function registerCreatePreview(app: Api, context: Context): void {
  app.post(
    '/previews',
    {
      ...planRoute(app, context),
      serializerCompiler: () => (graph) => JSON.stringify(graph),
      schema: {
        operationId: 'createPreview',
        tags: ['plans'],
        summary: 'Preview a task: every action and command, and nothing happens',
        description: 'The answer is the action graph that the same request to POST /v1/tasks would carry out, with waves and approvals as gates and what need not run again as unchanged, and beside it `counts`. With its `digest` as `previewDigest` that request is refused (409) when anything has changed since.',
        body: planBody(TaskRequestSchema, 'As for POST /v1/tasks.'),
        querystring: Type.Omit(TaskRequestQuery, ['previewDigest'], { additionalProperties: false }),
        response: { 200: { description: 'The action graph and its numbers.', content: { 'application/json': { schema: Type.Ref('Preview#') } } }, ...problemAnswers(400, 404, 413, 415, 422) },
      },
    },
    async (request) => {
      const { plan, kind } = await readTaskRequest(context.store, request.body, request.query)
      const problems = await findPlanProblems(context, plan, kind)
      if (problems.length > 0) throw rejectPlan(problems)
      const graph = await buildGraphNow(context, plan, kind)
      if (!graph.ok) throw rejectPlan(graph.problems)
      return { counts: countGraph(graph.value), ...graph.value } as never
    },
  )
}
