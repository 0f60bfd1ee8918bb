import type { ResolvedComponent } from '../plan/resolve-components.js'
import { SecretRoll, type SecretEntry, type SecretVersions } from '../secret/versions.js'

/** The secrets that these components of one deployment have, and share with each other, in order of their names. */
export function listSecrets(components: readonly ResolvedComponent[], versions: SecretVersions | undefined): SecretEntry[] {
  const roll = new SecretRoll(versions)
  for (const { component: { name }, blueprint, bindings } of components) {
    for (const declaration of blueprint.compiled.secrets) roll.name(declaration, scopeOfComponent(name))
    for (const binding of bindings) for (const declaration of binding.compiled.secrets) roll.name(declaration, scopeOfRelation(binding.provider, name, binding.relation))
  }
  return roll.entries()
}

/** What the names of a component's own secrets begin with. */
export const scopeOfComponent = (component: string): string => component
/** The same of those that a provider shares with one consumer. */
export const scopeOfRelation = (provider: string, consumer: string, relation: string): string => `${provider}.${consumer}.${relation}`
