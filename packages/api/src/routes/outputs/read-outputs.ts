import { Type } from '@sinclair/typebox'
import { keyOfOutput, LichenError } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import type { Context } from '../../context.js'
import { findOutputs, readPlainValue, readValue, type FoundOutput } from '../../outputs/deployment-outputs.js'
import { problemAnswers } from '../../problem/problem-document.js'
import { Named } from '../../schema/fields.js'
import { cutPage, linkNext, pageQuery, PageSchema } from '../../schema/page.js'
import { DeploymentParams, OutputParams, OutputSchema, OutputValueSchema } from './output-schemas.js'

const Query = Type.Object(pageQuery(100, 1000), { additionalProperties: false })

/** Registers GET /v1/deployments/{project}/{deployment}/outputs and GET …/outputs/{component}/{name}. */
export function registerReadOutputs(app: Api, context: Context): void {
  app.get(
    '/deployments/:project/:deployment/outputs',
    {
      schema: {
        operationId: 'listOutputs', tags: ['deployments'], summary: 'List what a deployment gives to its users',
        description: 'The outputs of its newest plan by component and name, with plain values, and secret ones without. 404 `DEPLOYMENT_UNKNOWN`, `OUTPUT_GONE` once it was destroyed; 409 `OUTPUT_NOT_READY` before the first apply is planned.',
        params: DeploymentParams, querystring: Query, response: { 200: PageSchema(Named(OutputSchema), 'A page of outputs.'), ...problemAnswers(400, 404, 409) },
      },
    },
    async (request, reply) => {
      const { project, deployment } = request.params
      const { limit, after } = request.query
      void reply.header('cache-control', 'no-store')
      const page = cutPage(await findOutputs(context, project, deployment), ({ output }) => keyOfOutput(output), limit, after)
      return { items: page.items.map(toListed), next: linkNext(request, reply, page.next) }
    },
  )
  app.get(
    '/deployments/:project/:deployment/outputs/:component/:name',
    {
      schema: {
        operationId: 'readOutput', tags: ['deployments'], summary: 'Read one output of a deployment, also a secret one',
        description: 'Who asked is written to the audit trail before the answer. 404 `OUTPUT_UNKNOWN` names those that there are; 409 `OUTPUT_NOT_READY` says what it waits for.',
        params: OutputParams, response: { 200: Named(OutputValueSchema), ...problemAnswers(400, 404, 409) },
      },
    },
    async (request, reply) => {
      const { project, deployment, component, name } = request.params
      void reply.header('cache-control', 'no-store')
      const all = await findOutputs(context, project, deployment, (output) => output.component === component && output.name === name)
      const one = all.find(({ output }) => output.component === component && output.name === name)
      if (one === undefined) throw unknownOutput(all, project, deployment, component, name)
      if (one.found === null) throw new LichenError('OUTPUT_NOT_READY', `output "${name}" of "${component}" in deployment "${deployment}" is not there yet: ${one.reason}`)
      const value = readValue(one.found, context.unseal)
      await context.audit.append(request, 'read output', `${project}/${deployment}/${component}/${name}`, `given in ${one.found.task}`)
      return { ...describe(one), value, task: one.found.task }
    },
  )
}

const describe = ({ output: { component, name, type, description }, isSecret }: FoundOutput) => ({ component, name, type, description, isSecret })

function toListed(one: FoundOutput) {
  const { found, isSecret, reason } = one
  try {
    return { ...describe(one), isReady: found !== null, value: found === null || isSecret ? null : readPlainValue(found), task: found?.task ?? null, reason }
  } catch (error) {
    // One that is no value of its type does not keep the others from being listed.
    if (!(error instanceof LichenError)) throw error
    return { ...describe(one), isReady: false, value: null, task: null, reason: error.message }
  }
}

function unknownOutput(all: readonly FoundOutput[], project: string, deployment: string, component: string, name: string): LichenError {
  const known = all.map(({ output }) => `${output.component}/${output.name}`)
  return new LichenError('OUTPUT_UNKNOWN', `deployment "${deployment}" in project "${project}" has no output ${component}/${name}; ${known.length === 0 ? 'it has none' : `it has ${known.join(', ')}`}`)
}
