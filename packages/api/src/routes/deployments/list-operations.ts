import { Type } from '@sinclair/typebox'
import { resolveComponents } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { readAppliedPlan } from '../../planning/deployment-operation.js'
import { rejectPlan } from '../../planning/plan-input.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named } from '../../schema/fields.js'
import { DeploymentParams } from './deployment-params.js'

export const OperationsSchema = Type.Object(
  {
    items: Type.Array(
      Type.Object({
        name: Type.String(),
        component: Type.String(),
        summary: Type.String(),
        parameters: Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true, description: 'A JSON Schema (2020-12); `{}`: none.' }),
      }),
      { description: 'By name, then by component.' },
    ),
  },
  { $id: 'DeploymentOperations', description: 'Operations of a deployment, once for each component that has one.' },
)

/** Registers GET /v1/deployments/{project}/{deployment}/operations. */
export function registerListOperations(app: Api, context: Context): void {
  app.get(
    '/deployments/:project/:deployment/operations',
    { schema: { operationId: 'listOperations', tags: ['deployments'], summary: 'List what can be done with a deployment', params: DeploymentParams, response: { 200: Named(OperationsSchema), ...problemAnswers(400, 404, 409, 422) } } },
    async (request) => {
      const { plan } = await readAppliedPlan(context, request.params.project, request.params.deployment)
      const { components, problems } = resolveComponents(plan, context.catalog)
      if (problems.length > 0) throw rejectPlan(problems)
      const items = components.flatMap(({ component, blueprint }) => Object.entries(blueprint.document.operations ?? {}).map(([name, { summary, parameters }]) => ({ name, component: component.name, summary, parameters: parameters ?? {} })))
      return { items: items.sort((a, b) => (a.name === b.name ? (a.component < b.component ? -1 : 1) : a.name < b.name ? -1 : 1)) }
    },
  )
}
