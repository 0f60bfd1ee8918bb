/** What a call is answered with when it is refused: our code stands first in the details, where agents look for it. */
import { type ServiceError, status, Metadata } from '@grpc/grpc-js'
import { type ErrorCode, LichenError } from '@lichen/core'

const statuses: Partial<Record<ErrorCode, status>> = {
  JOIN_TOKEN_INVALID: status.UNAUTHENTICATED,
  JOIN_TOKEN_EXPIRED: status.UNAUTHENTICATED,
  AGENT_UNAUTHENTICATED: status.UNAUTHENTICATED,
  AGENT_CLONED: status.ALREADY_EXISTS,
  JOIN_NAME_TAKEN: status.ALREADY_EXISTS,
  JOIN_BAD_REQUEST: status.INVALID_ARGUMENT,
  ORDER_MALFORMED: status.INVALID_ARGUMENT,
  STORE_UNAVAILABLE: status.UNAVAILABLE,
}

/** The gRPC error for anything thrown. What is no LichenError is a defect and tells the node nothing. */
export function refusalOf(error: unknown): ServiceError {
  const known = error instanceof LichenError && error.code !== 'INTERNAL' ? error : new LichenError('INTERNAL', 'a defect in the gateway; its log has the details')
  const details = `${known.code}: ${known.message}`
  return Object.assign(new Error(details), { code: statuses[known.code] ?? status.INTERNAL, details, metadata: new Metadata() })
}
