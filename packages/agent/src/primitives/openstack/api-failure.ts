import type { ErrorCode } from '@lichen/core'
import type { Answer } from './exchange.js'

export type OpenstackCode = Extract<ErrorCode, `COMMAND_${string}`>

/** Why the work ends here. Thrown within the primitive, and given out by it as a failure of this code. */
export class ApiFailure extends Error {
  constructor(readonly code: OpenstackCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ApiFailure'
  }
}

const codes: Readonly<Record<number, OpenstackCode>> = {
  401: 'COMMAND_OPENSTACK_CREDENTIALS',
  403: 'COMMAND_OPENSTACK_FORBIDDEN',
  404: 'COMMAND_OPENSTACK_NOT_FOUND',
  409: 'COMMAND_OPENSTACK_CONFLICT',
  413: 'COMMAND_OPENSTACK_QUOTA',
}
const maxReasonLength = 1000

/** The failure that an answer stands for. `what`: the request in words. Quotas hide behind 403 (nova), 409 (neutron) and 413 (glance). */
export function toFailure(what: string, answer: Answer): ApiFailure {
  const reason = findReason(answer.text)
  const isQuota = (answer.status === 403 || answer.status === 409) && /quota/i.test(reason)
  const code = isQuota ? 'COMMAND_OPENSTACK_QUOTA' : answer.status === 300 || answer.status >= 500 ? 'COMMAND_OPENSTACK_UNREACHABLE' : (codes[answer.status] ?? 'COMMAND_OPENSTACK_REFUSED')
  return new ApiFailure(code, `${what}: answered ${answer.status}${reason === '' ? '' : `: ${reason}`}`)
}

/** What the service says: keystone, nova and neutron put it into an object of one key, glance and proxies into a page. */
function findReason(text: string): string {
  const body = parseObject(text)
  const inner = body === undefined ? undefined : Object.values(body).find((value) => typeof value === 'object' && value !== null)
  const { message, type } = (inner ?? body ?? {}) as { message?: unknown; type?: unknown }
  const reason = typeof message === 'string' ? `${typeof type === 'string' ? `${type}: ` : ''}${message}` : text.replace(/<(style|script|title)[^>]*>.*?<\/\1>/gs, ' ').replace(/<[^>]*>/g, ' ')
  return reason.replace(/\s+/g, ' ').trim().slice(0, maxReasonLength)
}

/** The JSON object in the text; undefined when it is anything else. */
export function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
