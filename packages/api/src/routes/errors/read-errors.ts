import { Type, type Static } from '@sinclair/typebox'
import { errorTable, LichenError, type ErrorCode } from '@lichen/core'
import type { Api } from '../../schema/type-provider.js'
import { Named } from '../../schema/fields.js'

export const ErrorCodeSchema = Type.Object({ code: Type.String(), kind: Type.String({ description: '`rejected`, `outcome`, `unavailable` or `bug`.' }), http: Type.Integer({ description: 'The HTTP status code that it is answered with.' }), meaning: Type.String() }, { $id: 'ErrorCode', description: 'A code of the table of errors.' })
const Params = Type.Object({ code: Type.String({ pattern: '^[A-Z_]{1,60}$', description: 'A code.', examples: ['PLAN_CYCLE'] }) })

/** Registers GET /errors and GET /errors/{code}, where the `type` of every problem document leads. */
export function registerReadErrors(app: Api): void {
  app.get(
    '/errors',
    { schema: { operationId: 'listErrors', tags: ['operations'], summary: 'Every error code and what it means', security: [], response: { 200: Type.Object({ items: Type.Array(Named(ErrorCodeSchema)) }, { description: 'The table of codes.' }) } } },
    async () => ({ items: (Object.keys(errorTable) as ErrorCode[]).map(describeCode) }),
  )
  app.get(
    '/errors/:code',
    { schema: { operationId: 'readError', tags: ['operations'], summary: 'What an error code means', security: [], params: Params, response: { 200: Named(ErrorCodeSchema) } } },
    async (request) => {
      const { code } = request.params
      if (!Object.hasOwn(errorTable, code)) throw new LichenError('REQUEST_NOT_FOUND', `there is no error code ${code}`)
      return describeCode(code as ErrorCode)
    },
  )
}

function describeCode(code: ErrorCode): Static<typeof ErrorCodeSchema> {
  const { kind, http, meaning } = errorTable[code]
  return { code, kind, http, meaning }
}
