/**
 * Versions of secrets. A value never changes: to rotate a secret is to name its next version, which is generated like the first one. The version is part of the name in
 * references, so that graphs, previews and content keys say which value is meant, an action that names a rotated secret is not the one that was applied, and whoever
 * still works with an older graph finds the value of then.
 *
 *   keystone.adminPassword       version 1
 *   keystone.adminPassword@2     version 2
 */
import type { Problem } from '../errors.js'
import type { TaskId } from '../ids.js'
import { suggest } from '../plan/shape-problems.js'
import type { SecretRequirement } from './reference.js'

/** By name, those beyond 1. */
export type SecretVersions = Readonly<Record<string, number>>

/** What a person asks for when secrets of a deployment are to be rotated. */
export interface RotationRequest {
  /** The planned apply whose plan is applied with them. */
  readonly base: TaskId
  /** Names without version; null: all that may be rotated. */
  readonly secrets: readonly string[] | null
}

/** A secret as a blueprint declares it. */
export interface SecretDeclaration extends SecretRequirement {
  /** It keeps its value for ever, because something is encrypted with it. */
  readonly isFixed: boolean
}

/** A secret of a deployment, for people to choose from. */
export interface SecretEntry {
  readonly name: string
  readonly version: number
  readonly isFixed: boolean
}

/** The name under which a version is kept, and which its references have. */
export const nameOfVersion = (name: string, version: number): string => (version === 1 ? name : `${name}@${version}`)

/** Gives the secrets of one graph their versions, and remembers which are named. */
export class SecretRoll {
  readonly #before: SecretVersions
  readonly #rotation: RotationRequest | undefined
  readonly #entries = new Map<string, SecretEntry>()
  readonly #requirements = new Map<string, SecretRequirement>()
  #isSettled = false

  constructor(before: SecretVersions = {}, rotation?: RotationRequest) {
    this.#before = before
    this.#rotation = rotation
  }

  /** The name of the secret in the version that this graph means; `scope`: whose it is. */
  name({ name: own, length, isFixed }: SecretDeclaration, scope: string): string {
    const name = `${scope}.${own}`
    const before = Object.hasOwn(this.#before, name) ? this.#before[name]! : 1
    const version = this.#entries.get(name)?.version ?? (this.#rotates(name, isFixed) ? before + 1 : before)
    this.#entries.set(name, { name, version, isFixed })
    const full = nameOfVersion(name, version)
    this.#requirements.set(full, { name: full, length })
    return full
  }

  #rotates(name: string, isFixed: boolean): boolean {
    return !this.#isSettled && this.#rotation !== undefined && !isFixed && this.#rotation.secrets?.includes(name) !== false
  }

  /** All that stays has been named: what is named from here on belongs to what leaves, and goes with the value it has. Every problem of the rotation. */
  settle(): Problem[] {
    this.#isSettled = true
    if (this.#rotation === undefined) return []
    const movable = [...this.#entries.values()].filter(({ isFixed }) => !isFixed).map(({ name }) => name)
    if (this.#rotation.secrets === null) return movable.length > 0 ? [] : [{ code: 'SECRET_UNKNOWN', path: 'secrets', message: 'this deployment has no secrets that can be rotated' }]
    return this.#rotation.secrets.flatMap((name, at): Problem[] => {
      const entry = this.#entries.get(name)
      if (entry === undefined) return [{ code: 'SECRET_UNKNOWN', path: `secrets[${at}]`, message: `no secret "${name}" in this deployment${suggest(name, movable)}` }]
      return entry.isFixed ? [{ code: 'SECRET_FIXED', path: `secrets[${at}]`, message: `the secret "${name}" keeps its value: its blueprint says that something is encrypted with it` }] : []
    })
  }

  /** Those that are named, in order of their names. */
  entries(): SecretEntry[] {
    return [...this.#entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  requirements(): SecretRequirement[] {
    return [...this.#requirements.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** For the next task of the deployment; also of those that nobody names now. */
  versions(): SecretVersions {
    const all = { ...this.#before, ...Object.fromEntries(this.entries().map(({ name, version }) => [name, version])) }
    return Object.fromEntries(Object.entries(all).filter(([, version]) => version > 1).sort(([a], [b]) => (a < b ? -1 : 1)))
  }
}
