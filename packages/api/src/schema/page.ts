/** Cursor paging of lists: `{items, next}` and a Link header. A cursor is what the list is sorted by, so pages stay whole while things come and go. */
import { Type, type TSchema } from '@sinclair/typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'

/** Query parameters of a paged list. */
export const pageQuery = (defaultLimit: number, maxLimit: number) => ({
  limit: Type.Integer({ minimum: 1, maximum: maxLimit, default: defaultLimit, description: 'How many items at most.' }),
  after: Type.Optional(Type.String({ minLength: 1, maxLength: 400, description: 'Cursor: `next` of the page before.' })),
})

/** A page of these items. */
export const PageSchema = <Item extends TSchema>(item: Item, description: string) =>
  Type.Object(
    {
      items: Type.Array(item),
      next: Type.Union([Type.String(), Type.Null()], { description: 'Cursor of the next page (`?after=`), also in the Link header; null on the last one.' }),
    },
    { description },
  )

/** The `next` of an answer, with the Link header (RFC 8288) that leads there. */
export function linkNext(request: FastifyRequest, reply: FastifyReply, next: string | null): string | null {
  if (next !== null) {
    const url = new URL(request.url, 'http://api')
    url.searchParams.set('after', next)
    reply.header('link', `<${url.pathname}${url.search}>; rel="next"`)
  }
  return next
}

/**
 * A page of a list that is whole in memory and sorted by key: what follows `after`, at most `limit`. The item that `after` names may be gone.
 */
export function cutPage<Item>(items: readonly Item[], keyOf: (item: Item) => string, limit: number, after: string | undefined): { readonly items: readonly Item[]; readonly next: string | null } {
  const rest = after === undefined ? items : items.filter((item) => keyOf(item) > after)
  const page = rest.slice(0, limit)
  const last = page.at(-1)
  return { items: page, next: rest.length > limit && last !== undefined ? keyOf(last) : null }
}
