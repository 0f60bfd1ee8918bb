import { Ajv, type ValidateFunction } from 'ajv'
import { LichenError } from '@lichen/core'
import type { Static, TSchema } from '@sinclair/typebox'
import type { FastifySchemaCompiler } from 'fastify'
import { describeProblems } from '../problem/error-answers.js'
import { listValidationProblems } from '../problem/validation-problems.js'

const options = { allErrors: true, useDefaults: true, removeAdditional: false, strict: false, ownProperties: true } as const

/**
 * Compiles the schemas of requests. Bodies are taken as they are; what comes as text (query, path, headers) becomes numbers and booleans where the
 * schema says so. Every problem is found, nothing is removed in silence, defaults are filled in.
 */
export function buildRequestValidators(): FastifySchemaCompiler<object> {
  const bodies = new Ajv({ ...options, coerceTypes: false })
  const texts = new Ajv({ ...options, coerceTypes: true })
  return ({ schema, httpPart }): ValidateFunction => (httpPart === 'body' ? bodies : texts).compile(schema)
}

/** A check for bodies that a route validates by itself, because only a part of them has this shape. @throws REQUEST_SHAPE with every problem, from the function it gives back */
export function buildBodyCheck<Schema extends TSchema>(schema: Schema): (body: unknown) => Static<Schema> {
  const validate = new Ajv(options).compile(schema)
  return (body) => {
    if (validate(body)) return body as Static<Schema>
    const problems = listValidationProblems(validate.errors ?? [], 'body')
    throw new LichenError('REQUEST_SHAPE', describeProblems(problems), { problems })
  }
}

/** For routes whose body is checked by their operation: the schema is for the document alone. */
export const acceptAnyBody: FastifySchemaCompiler<object> = () => () => true
