/** Nova's kinds (Compute API 2.1: no microversion is asked for, so every cloud has it). */
import { collection, type Field, type Kind, settings } from './kind.js'

/** A public key without its comment: which is no part of the key. */
const keyOf = (value: unknown): unknown => (typeof value === 'string' ? value.trim().split(/\s+/).slice(0, 2).join(' ') : value)
const fixed = (api: string): Field => ({ api, use: 'fixed' })

/** Rows of the table, by the name of the kind. */
export const computeKinds: Readonly<Record<string, Kind>> = {
  // A server keeps a copy of its flavor, so flavors can be made anew.
  flavor: collection({
    service: 'compute',
    noun: 'flavor',
    path: '/flavors',
    listPath: '/flavors/detail',
    // Private ones too.
    query: { is_public: 'None' },
    filters: [],
    one: 'flavor',
    many: 'flavors',
    isReplaced: true,
    title: (values) => String(values['name']),
    fields: {
      name: { use: 'key' },
      vcpus: fixed('vcpus'),
      ramMiB: fixed('ram'),
      diskGiB: fixed('disk'),
      ephemeralGiB: fixed('OS-FLV-EXT-DATA:ephemeral'),
      // None is shown as an empty text.
      swapMiB: { ...fixed('swap'), normal: (value) => (value === '' ? 0 : value) },
      public: fixed('os-flavor-access:is_public'),
    },
  }),
  flavorSpecs: settings({
    service: 'compute',
    noun: 'extra specs of flavor',
    path: (keys) => `/flavors/${String(keys['flavor'])}/os-extra_specs`,
    one: 'extra_specs',
    method: 'POST',
    title: (values) => String(values['flavor']),
    fields: { flavor: { use: 'key', refers: { kind: 'flavor' } }, specs: { isMap: true } },
  }),
  // Of the user that asks. A key is put into servers when they are made, so it can be made anew.
  keypair: collection({
    service: 'compute',
    noun: 'keypair',
    path: '/os-keypairs',
    one: 'keypair',
    many: 'keypairs',
    id: 'name',
    filters: [],
    unwrap: (item) => item['keypair'] as Record<string, unknown>,
    isReplaced: true,
    title: (values) => String(values['name']),
    fields: { name: { use: 'key' }, publicKey: { api: 'public_key', use: 'fixed', normal: keyOf } },
  }),
  computeQuota: settings({
    service: 'compute',
    noun: 'compute quota of project',
    path: (keys) => `/os-quota-sets/${String(keys['project'])}`,
    one: 'quota_set',
    method: 'PUT',
    title: (values) => String(values['project']),
    fields: { project: { use: 'key', refers: { kind: 'project', with: { domain: 'projectDomain' } } }, limits: { isMap: true } },
  }),
}
