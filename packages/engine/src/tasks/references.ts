/** Putting values in the place of references, when an order is made and nowhere else. */
import { type Action, type Failure, type Reference, replaceReferences } from '@lichen/core'

/** A value that a reference stands for. */
export interface ReferencedValue {
  readonly value: string
  readonly isSecret: boolean
}

/** Commands ready for an order: JSON bytes without references, and the secret values in them, which the node masks. */
export interface ResolvedCommands {
  readonly bytes: Buffer
  readonly secrets: readonly string[]
}

/** The commands of the action with every reference replaced, or what is missing (ACTION_REFERENCE, all missing ones named). */
export function resolveCommands(action: Action, find: (reference: Reference) => ReferencedValue | undefined): { readonly ok: true; readonly value: ResolvedCommands } | { readonly ok: false; readonly failure: Failure } {
  const text = JSON.stringify(action.commands)
  const secrets = new Set<string>()
  const missing: string[] = []
  const resolved = replaceReferences(text, (written) => {
    const reference = unescapeReference(written)
    const found = find(reference)
    if (found === undefined) {
      missing.push(describeReference(reference))
      return ''
    }
    if (found.isSecret) secrets.add(found.value)
    return escapeForJson(found.value)
  })
  if (missing.length > 0) return { ok: false, failure: { code: 'ACTION_REFERENCE', message: `${action.id} needs ${[...new Set(missing)].join(', ')}` } }
  return { ok: true, value: { bytes: Buffer.from(resolved, 'utf8'), secrets: [...secrets] } }
}

/** The text as it stands between the quotes of a JSON string. */
const escapeForJson = (text: string): string => JSON.stringify(text).slice(1, -1)

// The reference was found in JSON text, where its names are escaped.
const unescapeJson = (text: string): string => (text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text)
const unescapeReference = (written: Reference): Reference =>
  written.kind === 'secret' ? { kind: 'secret', name: unescapeJson(written.name) } : { kind: 'output', action: unescapeJson(written.action), name: unescapeJson(written.name) }

const describeReference = (reference: Reference): string =>
  reference.kind === 'secret' ? `the secret "${reference.name}", which this deployment does not have` : `the output "${reference.name}" of ${reference.action}, which it did not give`
