/** The audit trail: who changed what. One line for each request that changed something, written by the operation that did it. */
import type { Store } from '@lichen/store'
import type { FastifyRequest } from 'fastify'
import type { ApiLog } from '../api-log.js'
import { callerOf } from './authenticate.js'

export interface Audit {
  /** Durable when it resolves. `what` is a verb and a noun (`cancel task`), `target` the id it was done to. */
  append(request: FastifyRequest, what: string, target: string, detail?: string): Promise<void>
  /** The same without waiting, for requests whose first event names the caller too. A failure is logged. */
  appendLater(request: FastifyRequest, what: string, target: string, detail?: string): void
  /** Resolves when what was put off is written. */
  settle(): Promise<void>
}

/** The audit trail in this store. */
export function buildAudit({ store, now, log }: { readonly store: Pick<Store, 'secrets'>; readonly now: () => number; readonly log: ApiLog }): Audit {
  const later = new Set<Promise<void>>()
  const append: Audit['append'] = (request, what, target, detail = '') => {
    const { name, tokenId } = callerOf(request)
    return store.secrets.appendAudit({ at: now(), by: `${name} (${tokenId})`, what, target, detail: `from ${request.ip}${detail === '' ? '' : `; ${detail}`}` })
  }
  return {
    append,
    appendLater(request, what, target, detail) {
      const writing = append(request, what, target, detail)
        .catch((error: unknown) => log.error({ err: error, what, target }, 'the audit trail could not be written'))
        .finally(() => later.delete(writing))
      later.add(writing)
    },
    async settle() {
      await Promise.all(later)
    },
  }
}
