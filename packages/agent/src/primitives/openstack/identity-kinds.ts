/** Keystone's kinds (Identity API v3). */
import { collection, type Field, type Kind, link, type Values } from './kind.js'

const noun = (text: string) => ({ noun: text, service: 'identity' }) as const
const inDomain = (values: Values): string => `${String(values['name'])}${(values['domain'] ?? 'Default') === 'Default' ? '' : ` (domain ${String(values['domain'])})`}`
const name: Field = { use: 'key' }
const domain: Field = { api: 'domain_id', use: 'key', refers: { kind: 'domain' }, fallback: 'Default' }
/** What is disabled is no use to anybody, and looks the same otherwise. */
const enabled: Field = { fallback: true }
const description: Field = {}

const grant = (suffix: string, target: Readonly<Record<string, Field>>, title: (values: Values) => string, path: (keys: Values) => string): Record<string, Kind> => ({
  [`grant${suffix}`]: link({
    ...noun('grant'),
    fields: { role: { use: 'key', refers: { kind: 'role' } }, user: { use: 'key', refers: { kind: 'user', with: { domain: 'userDomain' } } }, ...target },
    title: (values) => `of ${String(values['role'])} to user ${String(values['user'])} ${title(values)}`,
    path: (keys) => `${path(keys)}/users/${String(keys['user'])}/roles/${String(keys['role'])}`,
  }),
})

/** Rows of the table, by the name of the kind. */
export const identityKinds: Readonly<Record<string, Kind>> = {
  region: collection({ ...noun('region'), path: '/regions', one: 'region', many: 'regions', update: 'PATCH', filters: [], title: (values) => String(values['name']), fields: { name: { api: 'id', use: 'key' }, description } }),
  domain: collection({ ...noun('domain'), path: '/domains', one: 'domain', many: 'domains', update: 'PATCH', beforeRemoval: { enabled: false }, title: (values) => String(values['name']), fields: { name, description, enabled } }),
  project: collection({ ...noun('project'), path: '/projects', one: 'project', many: 'projects', update: 'PATCH', title: inDomain, fields: { name, domain, description, enabled } }),
  user: collection({
    ...noun('user'),
    path: '/users',
    one: 'user',
    many: 'users',
    update: 'PATCH',
    title: inDomain,
    fields: {
      name,
      domain,
      email: {},
      description,
      enabled,
      defaultProject: { api: 'default_project_id', refers: { kind: 'project', with: { domain: 'domain' } } },
      // A user that is disabled gets no token either: which of the two it was is not known before it is enabled.
      password: { findDifference: async (value, found, session) => ((await session.isPasswordOf(String(found['id']), String(value))) ? undefined : 'no token is given for the one asked for') },
    },
  }),
  role: collection({ ...noun('role'), path: '/roles', one: 'role', many: 'roles', update: 'PATCH', title: (values) => String(values['name']), fields: { name, description } }),
  // Its name is no key: two services of one type make a catalogue that nobody can use.
  service: collection({
    ...noun('service'),
    path: '/services',
    one: 'service',
    many: 'services',
    update: 'PATCH',
    title: (values) => String(values['type']),
    fields: { type: { use: 'key' }, name: {}, description, enabled },
    isShared: async (found, { values }, session) => (await session.list({ service: 'identity', path: '/endpoints', query: { service_id: found['id'] } }, 'endpoints')).some((endpoint) => endpoint['region_id'] !== values['region']),
  }),
  endpoint: collection({
    ...noun('endpoint'),
    path: '/endpoints',
    one: 'endpoint',
    many: 'endpoints',
    update: 'PATCH',
    // A service has three: all of them in one answer.
    filters: ['service_id'],
    title: (values) => `of ${String(values['service'])}, ${String(values['interface'])}, in region ${String(values['region'])}`,
    fields: {
      service: { api: 'service_id', use: 'key', refers: { kind: 'service', by: 'type' } },
      interface: { use: 'key' },
      region: { api: 'region_id', use: 'key', refers: { kind: 'region' } },
      url: {},
      enabled,
    },
  }),
  ...grant('OnProject', { project: { use: 'key', refers: { kind: 'project', with: { domain: 'projectDomain' } } } }, (values) => `on project ${String(values['project'])}`, (keys) => `/projects/${String(keys['project'])}`),
  ...grant('OnDomain', { domain: { use: 'key', refers: { kind: 'domain' } } }, (values) => `on domain ${String(values['domain'])}`, (keys) => `/domains/${String(keys['domain'])}`),
  ...grant('OnSystem', {}, () => 'on the system', () => '/system'),
}
