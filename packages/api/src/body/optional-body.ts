import type { FastifyRequest } from 'fastify'

/** A hook for routes whose body may be left out: no body is an empty object, so that the defaults of the schema hold. */
export async function fillMissingBody(request: FastifyRequest): Promise<void> {
  request.body ??= {}
}
