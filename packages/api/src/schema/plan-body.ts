import { Type, type TSchema } from '@sinclair/typebox'
import { yamlMediaTypes } from '../body/content-parsers.js'

/** The smallest plan that makes sense, for the document. */
export const examplePlan = {
  apiVersion: 'lichen.dev/v1',
  kind: 'DeploymentPlan',
  metadata: { name: 'hello' },
  nodes: [{ name: 'all', count: 1 }],
  components: [{ name: 'hello', blueprint: 'hello@^1', on: 'all' }],
}

export const examplePlanYaml = `apiVersion: lichen.dev/v1
kind: DeploymentPlan
metadata: { name: hello }
nodes:
  - { name: all, count: 1 }
components:
  - { name: hello, blueprint: hello@^1, on: all }
`

/** Body of a route that takes a plan: JSON of this schema, or the plan alone as YAML. */
export const planBody = (json: TSchema, description: string) => ({
  description,
  content: {
    'application/json': { schema: json },
    ...Object.fromEntries(yamlMediaTypes.map((mediaType) => [mediaType, { schema: Type.String({ description: 'The plan as YAML text.', examples: [examplePlanYaml] }) }])),
  },
})

/** A plan in JSON: the document, or a text of YAML or JSON that holds it. */
export const PlanInput = Type.Union([Type.Ref('DeploymentPlan#'), Type.String({ description: 'The plan as text, YAML or JSON.' })], { description: 'The deployment plan.' })
