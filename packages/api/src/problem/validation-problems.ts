import type { Problem } from '@lichen/core'
import type { FastifySchemaValidationError } from 'fastify/types/schema.js'

/** Part of a request, as paths name it: a problem in the body has a plain path, others say where they stand. */
const prefixes: Readonly<Record<string, string>> = { querystring: 'query', params: 'path', headers: 'header', body: '' }

/** What the validator found, each with its path as people write it: `query.limit`, `labels.zone`, `items[2].name`. */
export const listValidationProblems = (errors: readonly FastifySchemaValidationError[], part: string): Problem[] =>
  errors.filter((error) => error.keyword !== 'if').map((error) => toProblem(error, prefixes[part] ?? part))

function toProblem(error: FastifySchemaValidationError, prefix: string): Problem {
  const { missingProperty, additionalProperty } = error.params as { missingProperty?: string; additionalProperty?: string }
  const path = joinPath(prefix, error.instancePath, additionalProperty ?? missingProperty)
  const name = prefix === '' ? 'field' : prefix === 'query' ? 'query parameter' : prefix === 'header' ? 'header' : 'part of the path'
  if (additionalProperty !== undefined) return { code: 'REQUEST_SHAPE', path, message: `there is no ${name} "${additionalProperty}"` }
  if (missingProperty !== undefined) return { code: 'REQUEST_SHAPE', path, message: 'is missing' }
  const { allowedValues, allowedValue } = error.params as { allowedValues?: unknown[]; allowedValue?: unknown }
  if (allowedValues !== undefined) return { code: 'REQUEST_SHAPE', path, message: `must be one of ${allowedValues.join(', ')}` }
  if (allowedValue !== undefined) return { code: 'REQUEST_SHAPE', path, message: `must be ${JSON.stringify(allowedValue)}` }
  return { code: 'REQUEST_SHAPE', path, message: error.message ?? 'is not valid' }
}

/** `labels` + `/a~1b/0` + `name` → `labels["a/b"][0].name` (RFC 6901 pointers in). */
function joinPath(prefix: string, pointer: string, last: string | undefined): string {
  const parts = pointer.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
  if (last !== undefined) parts.push(last)
  let path = prefix
  for (const part of parts) {
    if (/^\d+$/.test(part)) path += `[${part}]`
    else if (/^[A-Za-z_][\w-]*$/.test(part)) path += path === '' ? part : `.${part}`
    else path += `[${JSON.stringify(part)}]`
  }
  return path
}
