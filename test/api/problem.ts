import type { LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import { errorTable, type ErrorCode, type Problem } from '@lichen/core'

/** Asserts that the answer is a whole problem document (RFC 9457) with this code; gives back its problems. */
export function checkProblem(t: Test, answer: Pick<LightMyRequestResponse, 'statusCode' | 'headers' | 'body'>, code: ErrorCode): readonly Problem[] {
  t.equal(answer.statusCode, errorTable[code].http, `${code}: ${answer.body.slice(0, 500)}`)
  t.equal(answer.headers['content-type'], 'application/problem+json')
  const document = JSON.parse(answer.body) as Record<string, unknown>
  t.match(document, { type: `/errors/${code}`, title: errorTable[code].meaning, status: errorTable[code].http, code, detail: String, instance: /^[A-Z]+ \// })
  t.same(Object.keys(document).sort(), ['code', 'detail', 'instance', 'problems', 'status', 'title', 'type'])
  const problems = document['problems'] as Problem[]
  t.ok(Array.isArray(problems))
  for (const problem of problems) t.match(problem, { code: String, path: String, message: String })
  return problems
}
