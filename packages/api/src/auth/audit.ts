/**
 * The audit trail: who changed what, and who read which output. One line for each such request, written by the operation that did it. Owns the lines that
 * were put off for some milliseconds, so that many of them share a transaction.
 */
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

type Entry = Parameters<Store['secrets']['appendAudit']>[0]

// At 500 tasks a second one transaction instead of ten; a crash loses that many milliseconds of lines, whose tasks name the caller themselves.
const pauseMs = 20

/** The audit trail in this store. */
export function buildAudit({ store, now, log }: { readonly store: Pick<Store, 'secrets'>; readonly now: () => number; readonly log: ApiLog }): Audit {
  const running = new Set<Promise<void>>()
  let waiting: Entry[] = []
  let timer: NodeJS.Timeout | undefined

  function buildEntry(request: FastifyRequest, what: string, target: string, detail: string): Entry {
    const { name, tokenId } = callerOf(request)
    return { at: now(), by: `${name} (${tokenId})`, what, target, detail: `from ${request.ip}${detail === '' ? '' : `; ${detail}`}` }
  }

  function writeWaiting(): void {
    clearTimeout(timer)
    timer = undefined
    const entries = waiting
    waiting = []
    for (const entry of entries) {
      const writing = store.secrets
        .appendAudit(entry)
        .catch((error: unknown) => log.error({ err: error, entry }, 'a line of the audit trail could not be written'))
        .finally(() => running.delete(writing))
      running.add(writing)
    }
  }

  return {
    append: (request, what, target, detail = '') => store.secrets.appendAudit(buildEntry(request, what, target, detail)),
    appendLater(request, what, target, detail = '') {
      waiting.push(buildEntry(request, what, target, detail))
      timer ??= setTimeout(writeWaiting, pauseMs)
    },
    async settle() {
      writeWaiting()
      await Promise.all(running)
    },
  }
}
