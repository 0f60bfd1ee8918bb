/** The one place where an error becomes an answer. */
import { LichenError, type ErrorCode, type Problem } from '@lichen/core'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import type { ApiLog } from '../api-log.js'
import { drainBody } from '../body/drain-body.js'
import type { Api } from '../schema/type-provider.js'
import { buildProblemDocument, problemMediaType } from './problem-document.js'
import { listValidationProblems } from './validation-problems.js'

const retryAfterS = 2

/** Answers every error of the routes and every path that is none as a problem document. */
export function registerErrorAnswers(app: Api, log: ApiLog): void {
  app.setErrorHandler(async (error: unknown, request, reply) => {
    const known = explainError(error as FastifyError, request)
    if (known === undefined) {
      log.error({ err: error, method: request.method, route: request.routeOptions.url, url: request.url, caller: request.caller?.name }, 'a request failed because of a defect')
      return sendProblem(request, reply, 'INTERNAL', 'The request could not be answered because of a defect; the log of the server has the details.')
    }
    if (known.entry.kind === 'unavailable') log.warn({ err: known, method: request.method, url: request.url }, 'a request could not be served now')
    if (known.code === 'PLAN_TOO_LARGE') await drainBody(request.raw)
    if (known.entry.kind === 'unavailable') reply.header('retry-after', known.retryAfterS ?? retryAfterS)
    if (known.entry.http === 401) reply.header('www-authenticate', request.headers.authorization === undefined ? 'Bearer realm="lichen"' : 'Bearer realm="lichen", error="invalid_token"')
    return sendProblem(request, reply, known.code, known.message, known.problems)
  })
  app.setNotFoundHandler((request, reply) => sendProblem(request, reply, 'REQUEST_NOT_FOUND', `there is nothing at ${request.method} ${pathOf(request)}; /docs lists what there is`))
}

const pathOf = (request: FastifyRequest): string => request.url.split('?', 1)[0] ?? ''

/** Sends the problem document of this code. */
export function sendProblem(request: FastifyRequest, reply: FastifyReply, code: ErrorCode, detail: string, problems: readonly Problem[] = []): FastifyReply {
  const document = buildProblemDocument(code, detail, `${request.method} ${pathOf(request)}`, problems)
  // As bytes: to text the framework would add a charset, which this media type does not have.
  return reply.code(document.status).header('content-type', problemMediaType).send(Buffer.from(JSON.stringify(document)))
}

/** The LichenError that an error means for the caller; undefined for a defect. */
function explainError(error: FastifyError, request: FastifyRequest): LichenError | undefined {
  if (error instanceof LichenError) return error.entry.kind === 'rejected' || error.entry.kind === 'unavailable' ? error : undefined
  if (error.validation) {
    const problems = listValidationProblems(error.validation, error.validationContext ?? 'body')
    return new LichenError('REQUEST_SHAPE', describeProblems(problems), { problems })
  }
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new LichenError('PLAN_TOO_LARGE', `the body is larger than the ${request.routeOptions.bodyLimit} bytes that ${request.method} ${pathOf(request)} takes`)
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new LichenError('REQUEST_MEDIA_TYPE', `the content type ${JSON.stringify(request.headers['content-type'] ?? '')} is not one of application/json, application/yaml, text/yaml`)
    default:
      // What else the framework refuses for the caller's sake: a broken length, a broken URL, an aborted body.
      return typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500 ? new LichenError('REQUEST_SHAPE', error.message) : undefined
  }
}

/** One sentence for a list of problems: the first of them, and how many more there are. */
export function describeProblems(problems: readonly Problem[]): string {
  const [first] = problems
  if (first === undefined) return 'the input is not valid'
  const text = first.path === '' ? first.message : `${first.path}: ${first.message}`
  return problems.length === 1 ? text : `${text} (and ${problems.length - 1} more problem${problems.length === 2 ? '' : 's'})`
}
