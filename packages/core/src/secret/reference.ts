/**
 * References: text that stands for a value which planning must not know. A secret, or an output of an action that has not run yet, appears in
 * graphs, previews and digests only as its reference; the engine puts the value in when it sends the order, and nowhere else.
 *
 *   ⟦secret:NAME⟧              a secret of the deployment
 *   ⟦output:ACTION_ID#NAME⟧    an output of an earlier action
 *
 * The brackets U+27E6/7 are in no configuration format we know of; a user's text that contains one is rejected by `checkPlan`.
 */
export type Reference = { readonly kind: 'secret'; readonly name: string } | { readonly kind: 'output'; readonly action: string; readonly name: string }

const pattern = /⟦(?:secret:([^⟦⟧#]+)|output:([^⟦⟧#]+)#([^⟦⟧#]+))⟧/gu

/** The text of a reference, as it stands in graphs and previews. */
export const encodeReference = (reference: Reference): string =>
  reference.kind === 'secret' ? `⟦secret:${reference.name}⟧` : `⟦output:${reference.action}#${reference.name}⟧`

/** Every reference in the text, in order, with repeats. */
export function findReferences(text: string): Reference[] {
  return [...text.matchAll(pattern)].map((match) => toReference(match[1], match[2], match[3]))
}

/** The text with every reference replaced by what `resolve` gives for it. */
export function replaceReferences(text: string, resolve: (reference: Reference) => string): string {
  if (!text.includes('⟦')) return text
  return text.replace(pattern, (_whole, secret?: string, action?: string, name?: string) => resolve(toReference(secret, action, name)))
}

function toReference(secret: string | undefined, action: string | undefined, name: string | undefined): Reference {
  return secret === undefined ? { kind: 'output', action: action ?? '', name: name ?? '' } : { kind: 'secret', name: secret }
}

/** What a check puts in the place of an output that its action has not given yet. */
export const buildStandIn = (action: string, name: string): string => `(what ${action} will give as ${name})`

/** Whether one stands in the text: the value it stands for may be a secret. */
export const hasStandIn = (text: string): boolean => /\(what \S+ will give as [^)]+\)/.test(text)

/** A secret that a plan needs: the engine generates it once for each deployment, when it is not there. */
export interface SecretRequirement {
  /** Unique in the deployment, e.g. `db.rootPassword` or `keystone.database.password`. */
  readonly name: string
  /** Characters, from a-z A-Z 0-9 (no quoting is ever needed). */
  readonly length: number
}
