import type { FastifySchemaCompiler } from 'fastify'
import type { Api } from '../schema/type-provider.js'
import type { Context } from '../context.js'
import { acceptAnyBody } from '../schema/request-validators.js'

/** Options of a route whose body is or holds a plan: a larger body, YAML too, and the body is checked by the operation, which knows better words than the validator. */
export function planRoute(app: Api, { limits }: Pick<Context, 'limits'>) {
  const validatorCompiler: FastifySchemaCompiler<object> = (part) => (part.httpPart === 'body' ? acceptAnyBody(part) : (app.validatorCompiler as FastifySchemaCompiler<object>)(part))
  return { config: { hasPlan: true }, bodyLimit: limits.planBodyBytes, validatorCompiler } as const
}
