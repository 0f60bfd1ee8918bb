import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import type { ErrorObject } from 'ajv'
import type { ValueValidator } from './compiled-blueprint.js'

const options = { allErrors: true, useDefaults: true, strict: true, allowUnionTypes: true, strictRequired: false, strictTypes: false } as const

/** Knows what a JSON Schema may be. It is one for all of them: it compiles the schema of schemas, which takes longer than the schemas of a whole catalog. */
const schemas = new Ajv2020({ ...options, logger: false })
addFormats.default(schemas)

/**
 * A validator for a JSON Schema (2020-12); an absent schema allows no parameter at all. The value it gives back is a copy with defaults filled in.
 * @throws the error of ajv when the schema is not valid
 */
export function compileValidator(schema: Record<string, unknown> | undefined): ValueValidator {
  // One of its own for each: two schemas may have the same `$id`.
  const ajv = new Ajv2020({ ...options, meta: false, validateSchema: false })
  addFormats.default(ajv)
  if (schema !== undefined) void schemas.validateSchema(schema, true)
  const validate = ajv.compile(schema ?? { type: 'object', additionalProperties: false })
  return (value) => {
    const copy = structuredCopy(value)
    return validate(copy) ? { value: copy, problems: [] } : { value: copy, problems: (validate.errors ?? []).filter(({ keyword }) => keyword !== 'propertyNames').map(toProblem) }
  }
}

const structuredCopy = (value: Record<string, unknown>): Record<string, unknown> => JSON.parse(JSON.stringify(value)) as Record<string, unknown>

function toProblem(error: ErrorObject): { path: string; message: string } {
  const base = error.instancePath.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~')).join('.')
  const inner = (name: unknown) => (base === '' ? String(name) : `${base}.${String(name)}`)
  if (error.keyword === 'additionalProperties') return { path: inner(error.params['additionalProperty']), message: 'no such parameter' }
  if (error.keyword === 'required') return { path: inner(error.params['missingProperty']), message: 'is required' }
  if (error.keyword === 'enum') return { path: base, message: `must be one of ${(error.params['allowedValues'] as unknown[]).map((value) => JSON.stringify(value)).join(', ')}` }
  // Of a name, not of a value; what comes beside it (`propertyNames`) says no more.
  if (error.propertyName !== undefined) return { path: inner(error.propertyName), message: `is no name that can stand here: it ${error.message ?? error.keyword}` }
  return { path: base, message: error.message ?? error.keyword }
}
