/** What a node says of an attempt, checked where it comes in: later code only sees typed results. */
import { type AttemptResult, buildEngineResult, type NodeId } from '@lichen/core'
import { type AttemptKey, decodeResult, type OrderRefused, type ResultReport } from '@lichen/protocol'

export interface AttemptReport {
  readonly node: NodeId
  readonly key: AttemptKey
  readonly result: AttemptResult
  /** Values that must not be stored with the result. */
  readonly secretOutputs: Readonly<Record<string, string>>
  /** Tells the node that the result is durable, or that nobody wants it. Does nothing when its stream is closed: it will send it again. */
  readonly acknowledge: () => void
}

/** The report in a message, at time `at`. A result that cannot be read is a result all the same: its attempt ended, and how is unknown. */
export function parseReport(node: NodeId, key: AttemptKey, { result, secretOutputs }: ResultReport, at: number, acknowledge: () => void): AttemptReport {
  const decoded = decodeResult(result)
  if (decoded.ok) return { node, key, result: decoded.value, secretOutputs, acknowledge }
  const problem = decoded.problems[0]
  const message = `node ${node} sent a result that cannot be read${problem ? ` (${problem.path === '' ? '' : `${problem.path}: `}${problem.message})` : ''}; whether the effect happened is unknown`
  return { node, key, result: buildEngineResult('unknown', 'ORDER_MALFORMED', message, at), secretOutputs: {}, acknowledge }
}

/** The report that a refused order amounts to: nothing was run. */
export function reportRefusal(node: NodeId, key: AttemptKey, { code, message }: OrderRefused, at: number): AttemptReport {
  const known = /^[A-Z][A-Z0-9_]*$/.test(code) ? code : 'ORDER_MALFORMED'
  return { node, key, result: buildEngineResult('failed', known, `node ${node} refused the order: ${message}`, at), secretOutputs: {}, acknowledge: () => undefined }
}
