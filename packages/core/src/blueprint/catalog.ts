import { compare, satisfies, validRange } from 'semver'
import type { Blueprint, Catalog } from './blueprint-schema.js'

/** A catalog of these blueprints, several versions of one name allowed. `find` gives the highest version in the range. */
export function buildCatalog(blueprints: readonly Blueprint[]): Catalog {
  const byName = new Map<string, Blueprint[]>()
  for (const blueprint of blueprints) byName.set(blueprint.document.name, [...(byName.get(blueprint.document.name) ?? []), blueprint])
  for (const versions of byName.values()) versions.sort((a, b) => compare(b.document.version, a.document.version))
  const listed = [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, versions]) => versions)
  return {
    find: (name, range) => byName.get(name)?.find((blueprint) => satisfies(blueprint.document.version, range)),
    list: () => listed,
  }
}

/** Name and semver range of a component's `blueprint`, e.g. `keystone@^1`; the range is `*` when absent, undefined when it is not one. */
export function parseBlueprintReference(text: string): { readonly name: string; readonly range: string | undefined } {
  const [name, range] = text.split('@', 2) as [string, string?]
  return { name, range: range === undefined ? '*' : (validRange(range) ?? undefined) }
}
