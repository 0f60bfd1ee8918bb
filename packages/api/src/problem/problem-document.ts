/** Error answers: RFC 9457 problem details with our codes. */
import { Type, type Static } from '@sinclair/typebox'
import { errorTable, type ErrorCode, type Problem } from '@lichen/core'

/** Media type of every error answer (RFC 9457, section 3). */
export const problemMediaType = 'application/problem+json'

export const ProblemSchema = Type.Object(
  {
    code: Type.String({ description: 'Code of docs/errors.md.' }),
    path: Type.String({ description: 'Where in the input, as people write it: `components[2].uses.database`; empty for the whole.' }),
    message: Type.String({ description: 'What was found, in a sentence.' }),
  },
  { $id: 'Problem', description: 'One thing wrong with an input.' },
)

export const ProblemDocumentSchema = Type.Object(
  {
    type: Type.String({ format: 'uri-reference', description: 'Where the code is explained: `/errors/{code}`.' }),
    title: Type.String({ description: 'What the code means.' }),
    status: Type.Integer({ description: 'The HTTP status code.' }),
    detail: Type.String({ description: 'What was attempted, on what, and what was found.' }),
    instance: Type.String({ description: 'Method and path of the request.' }),
    code: Type.String({ description: 'Code for machines; never renamed.' }),
    problems: Type.Array(Type.Ref('Problem#'), { description: 'Every mistake found, all at once; empty when there is only the one of `detail`.' }),
  },
  {
    $id: 'ProblemDocument',
    description: 'RFC 9457 problem details.',
    examples: [
      {
        type: '/errors/PLAN_UNKNOWN_COMPONENT',
        title: '`uses` or `after` names a component that the plan does not have.',
        status: 422,
        detail: 'components[2].uses.database: no component "db" in this plan',
        instance: 'POST /v1/tasks',
        code: 'PLAN_UNKNOWN_COMPONENT',
        problems: [{ code: 'PLAN_UNKNOWN_COMPONENT', path: 'components[2].uses.database', message: 'no component "db" in this plan' }],
      },
    ],
  },
)

export type ProblemDocument = Omit<Static<typeof ProblemDocumentSchema>, 'problems'> & { readonly problems: readonly Problem[] }

/** The document for an error with this code. */
export const buildProblemDocument = (code: ErrorCode, detail: string, instance: string, problems: readonly Problem[] = []): ProblemDocument => ({
  type: `/errors/${code}`,
  title: errorTable[code].meaning,
  status: errorTable[code].http,
  detail,
  instance,
  code,
  problems,
})

const descriptions: Readonly<Record<number, string>> = {
  400: 'The request is malformed.',
  401: 'The bearer token is missing, unknown or expired.',
  404: 'There is no such resource.',
  409: 'The state of the resource does not allow this, or the preview has moved, or the Idempotency-Key was used for another request.',
  413: 'The plan is too large.',
  415: 'The content type of the body is not one that this endpoint reads.',
  422: 'The plan is well-formed and does not make sense; `problems` lists every mistake.',
  503: 'The store or the broker is out of reach; `Retry-After` says when to try again.',
}

/** Error answers of a route for its schema; 401 and 503 are those of every route under /v1. */
export const problemAnswers = (...codes: readonly (400 | 404 | 409 | 413 | 415 | 422)[]): Record<number, unknown> =>
  Object.fromEntries([...codes, 401, 503].map((code) => [code, { description: descriptions[code], content: { [problemMediaType]: { schema: Type.Ref('ProblemDocument#') } } }]))
