import { Type } from '@sinclair/typebox'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { findPlanProblems } from '../../planning/checked-plan.js'
import { isBarePlan, isObject, readPlan } from '../../planning/plan-input.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { PlanInput, planBody } from '../../schema/plan-body.js'
import { buildBodyCheck } from '../../schema/request-validators.js'
import { planRoute } from '../plan-route.js'

const checkBody = buildBodyCheck(Type.Object({ plan: Type.Unknown() }, { additionalProperties: false }))

/** Registers POST /v1/plans/check. */
export function registerCheckPlan(app: Api, context: Context): void {
  app.post(
    '/plans/check',
    {
      ...planRoute(app, context),
      schema: {
        operationId: 'checkPlan',
        tags: ['plans'],
        summary: 'Check a plan against the catalog and the nodes',
        description: 'Says every problem at once, each with its path. A plan with problems is answered with 200 as well: the question was answered. 400 is for text that is not well-formed.',
        body: planBody(Type.Union([Type.Ref('DeploymentPlan#'), Type.Object({ plan: PlanInput }, { additionalProperties: false })]), 'The plan, as JSON or YAML, or `{plan}` with the plan in it.'),
        response: {
          200: Type.Object({ valid: Type.Boolean(), problems: Type.Array(Type.Ref('Problem#')) }, { description: '`valid` when there are no problems.' }),
          ...problemAnswers(400, 413, 415),
        },
      },
    },
    async (request) => {
      const { body } = request
      const isWrapped = !isBarePlan(body) && isObject(body) && 'plan' in body
      const plan = readPlan(isWrapped ? checkBody(body).plan : body)
      const problems = plan.ok ? await findPlanProblems(context, plan.value, 'apply') : plan.problems
      return { valid: problems.length === 0, problems: [...problems] }
    },
  )
}
