/**
 * The other side of `openstack` commands: an HTTP server with the edges of OpenStack's APIs (bodies, filters, pages, errors, tokens, a catalogue). It keeps what it is given and answers by that.
 * What real services do beyond it is for the tests on real nodes.
 */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

export type Item = Record<string, any>

export interface Asked {
  readonly method: string
  /** Of the service: `/v3/users`. */
  readonly path: string
  readonly query: Record<string, string>
  readonly body: any
  readonly headers: IncomingMessage['headers']
}

/** What is said in place of the usual answer; `hang`: nothing; `break`: the connection ends after the work was done. */
export type Disturbance = { readonly status: number; readonly body?: unknown } | 'hang' | 'break' | undefined

interface Shape {
  readonly one?: string
  readonly many: string
  /** How pages are linked. */
  readonly links: 'keystone' | 'links' | 'glance'
  readonly id?: string
  readonly wraps?: boolean
}

const keystone = (one: string): Shape => ({ one, many: one === 'identity' ? 'identities' : `${one}s`, links: 'keystone' })
const neutron = (one: string): Shape => ({ one, many: `${one}s`, links: 'links' })
const shapes: Record<string, Shape> = {
  ...Object.fromEntries(['region', 'domain', 'project', 'user', 'role', 'service', 'endpoint'].map((one) => [`/v3/${one}s`, keystone(one)])),
  ...Object.fromEntries(['network', 'subnet', 'router', 'port', 'security_group', 'security_group_rule'].map((one) => [`/v2.0/${one.replaceAll('_', '-')}s`, neutron(one)])),
  '/v2.1/flavors': { one: 'flavor', many: 'flavors', links: 'links' },
  '/v2.1/os-keypairs': { one: 'keypair', many: 'keypairs', links: 'links', id: 'name', wraps: true },
  '/v2/images': { many: 'images', links: 'glance' },
}
const adminToken = 'gAAAA-token-of-the-administrator'

export class TestCloud {
  /** Collections by path, e.g. `/v3/users`. Passwords stay in users. */
  readonly items = new Map<string, Item[]>()
  /** Paths that exist and nothing else: grants. */
  readonly links = new Set<string>()
  /** Values that are set: quotas and extra specs. */
  readonly values = new Map<string, Item>()
  readonly asked: Asked[] = []
  /** Of every list; 1000 is no paging. */
  pageSize = 1000
  catalogue: Item[]
  disturb: (asked: Asked) => Disturbance = () => undefined
  url = ''
  #ids = 0
  /** Whose each is, and with which password it was given. */
  readonly #tokens = new Map<string, { readonly user: Item; readonly password: unknown }>()

  constructor() {
    this.items.set('/v3/domains', [{ id: 'default', name: 'Default', enabled: true }])
    this.items.set('/v3/regions', [{ id: 'RegionOne', description: '' }])
    this.items.set('/v3/projects', [{ id: 'p-admin', name: 'admin', domain_id: 'default', enabled: true }])
    this.items.set('/v3/roles', [{ id: 'r-admin', name: 'admin', domain_id: null }])
    this.items.set('/v3/users', [{ id: 'u-admin', name: 'admin', domain_id: 'default', enabled: true, password: 'admin-secret' }])
    this.catalogue = []
  }

  /** All that was asked for to change something. */
  get writes(): string[] {
    return this.asked.filter(({ method, path }) => method !== 'GET' && path !== '/v3/auth/tokens').map(({ method, path }) => `${method} ${path}`)
  }

  /** Tokens that were asked for: by whom they act, and to learn whether a password is right. */
  get logins(): { readonly scoped: number; readonly unscoped: number } {
    const asked = this.asked.filter(({ method, path }) => method === 'POST' && path === '/v3/auth/tokens')
    const unscoped = asked.filter(({ body }) => body.auth.scope === 'unscoped').length
    return { scoped: asked.length - unscoped, unscoped }
  }

  all(path: string): Item[] {
    const items = this.items.get(path) ?? []
    this.items.set(path, items)
    return items
  }

  add(path: string, item: Item): Item {
    const made = { id: `id-${++this.#ids}`, ...item }
    this.all(path).push(made)
    return made
  }

  /** A service of this type at an URL of this server. */
  offer(type: string, path: string, region = 'RegionOne', interfaceName = 'public'): void {
    this.catalogue.push({ type, name: type, endpoints: [{ interface: interfaceName, region, region_id: region, url: `${this.url}${path}` }] })
  }

  /** No token that was given is good any more. */
  revoke(): void {
    this.#tokens.clear()
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const raw = Buffer.concat(parts)
    const url = new URL(request.url!, this.url)
    const body = request.headers['content-type'] === 'application/octet-stream' || raw.length === 0 ? raw : JSON.parse(raw.toString('utf8'))
    const asked: Asked = { method: request.method!, path: url.pathname, query: Object.fromEntries(url.searchParams), body, headers: request.headers }
    this.asked.push(asked)
    const disturbance = this.disturb(asked)
    if (disturbance === 'hang') return
    const answer = typeof disturbance === 'object' ? disturbance : this.#answer(asked)
    if (disturbance === 'break') return void request.socket.destroy()
    const text = answer.body === undefined ? '' : typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body)
    response.writeHead(answer.status, { 'content-type': 'application/json', ...('token' in answer && { 'x-subject-token': answer.token as string }) }).end(text)
  }

  #answer(asked: Asked): { status: number; body?: unknown; token?: string } {
    const { method, path, body } = asked
    if (path === '/v3/auth/tokens') return method === 'GET' ? this.#lookAtToken(asked) : this.#giveToken(body.auth)
    if (!this.#tokens.has(String(asked.headers['x-auth-token']))) return { status: 401, body: { error: { code: 401, message: 'The request you have made requires authentication.' } } }
    if (/\/roles\/[^/]+$/.test(path) && !path.startsWith('/v3/roles/')) return this.#answerLink(method, path)
    if (/quota|os-extra_specs/.test(path)) return this.#answerValues(method, path, body)
    if (path.endsWith('_router_interface')) return this.#answerInterface(path, body)
    const collection = Object.keys(shapes).find((each) => path === each || path === `${each}/detail` || path.startsWith(`${each}/`))
    if (collection === undefined) return { status: 404, body: { error: { message: `no ${path}` } } }
    const rest = path.slice(collection.length + 1)
    if (rest === '' || rest === 'detail') return method === 'POST' ? this.#make(collection, body) : this.#list(collection, asked)
    return this.#answerItem(collection, rest, asked)
  }

  #giveToken(auth: any): { status: number; body?: unknown; token?: string } {
    const { user } = auth.identity.password
    const found = this.all('/v3/users').find((each) => (user.id ? each['id'] === user.id : each['name'] === user.name))
    if (found?.['password'] !== user.password || !found?.['enabled']) return { status: 401, body: { error: { code: 401, message: 'The request you have made requires authentication.', title: 'Unauthorized' } } }
    const token = found['id'] === 'u-admin' ? `${adminToken}-${this.#tokens.size}` : `gAAAA-${this.#tokens.size}`
    this.#tokens.set(token, { user: found, password: user.password })
    return { status: 201, token, body: { token: { ...(auth.scope?.project && { project: { id: 'p-admin' } }), catalog: this.catalogue } } }
  }

  /** Tokens of a user whose password changes, or who is disabled, are good no more. */
  #lookAtToken({ headers }: Asked): { status: number; body?: unknown } {
    const token = this.#tokens.get(String(headers['x-subject-token']))
    return token !== undefined && token.user['password'] === token.password && token.user['enabled'] ? { status: 200, body: { token: {} } } : { status: 401, body: { error: { code: 401, message: 'The request you have made requires authentication.' } } }
  }

  #answerLink(method: string, path: string): { status: number } {
    if (method === 'PUT') this.links.add(path)
    const isThere = this.links.has(path)
    if (method === 'DELETE') this.links.delete(path)
    return { status: isThere ? 204 : 404 }
  }

  #answerValues(method: string, path: string, body: any): { status: number; body?: unknown } {
    const name = path.includes('extra_specs') ? 'extra_specs' : path.includes('quota-sets') ? 'quota_set' : 'quota'
    const values = this.values.get(path) ?? {}
    if (method !== 'GET') Object.assign(values, body[name])
    this.values.set(path, values)
    return { status: 200, body: { [name]: values } }
  }

  #answerInterface(path: string, { subnet_id: subnetId }: any): { status: number; body: unknown } {
    const router = path.split('/')[3]
    if (path.endsWith('/add_router_interface')) this.add('/v2.0/ports', { device_id: router, device_owner: 'network:router_interface', fixed_ips: [{ subnet_id: subnetId }] })
    else this.items.set('/v2.0/ports', this.all('/v2.0/ports').filter((port) => port['fixed_ips'][0].subnet_id !== subnetId))
    return { status: 200, body: {} }
  }

  #make(collection: string, body: any): { status: number; body?: unknown } {
    const { one } = shapes[collection]!
    const given: Item = one === undefined ? body : body[one]
    // Names of services and networks are not unique, those of the rest are.
    const isTaken = !/services|endpoints|networks|images|rules|routers|subnets|regions/.test(collection) && this.all(collection).some((each) => each['name'] === given['name'] && each['domain_id'] === (given['domain_id'] ?? each['domain_id']))
    if (isTaken) return { status: 409, body: { error: { code: 409, message: `Conflict occurred attempting to store ${one} - Duplicate entry found with name ${given['name']}.`, title: 'Conflict' } } }
    const made = this.add(collection, { ...(collection === '/v2/images' && { status: 'queued', owner: 'p-admin' }), ...given })
    return { status: 201, body: one === undefined ? made : { [one]: made } }
  }

  #list(collection: string, { path, query }: Asked): { status: number; body: unknown } {
    const { many, links, wraps, id = 'id' } = shapes[collection]!
    const { marker, is_public: _allFlavors, ...filters } = query
    const all = this.all(collection).filter((item) => Object.entries(filters).every(([name, value]) => !(name in item) || String(item[name]) === value))
    const start = marker === undefined ? 0 : all.findIndex((item) => item[id] === marker) + 1
    const page = all.slice(start, start + this.pageSize)
    const isLast = start + page.length >= all.length
    const next = isLast ? null : `${path}?${new URLSearchParams({ ...query, marker: page.at(-1)![id] }).toString()}`
    const link = { keystone: { links: { next: next && `http://another.invalid${next}` } }, links: next ? { [`${many}_links`]: [{ rel: 'next', href: `http://another.invalid${next}` }] } : {}, glance: next ? { next } : {} }[links]
    return { status: 200, body: { [many]: page.map((item) => (wraps ? { keypair: item } : this.#shown(item))), ...link } }
  }

  #answerItem(collection: string, rest: string, { method, body }: Asked): { status: number; body?: unknown } {
    const { one, id = 'id' } = shapes[collection]!
    const [itemId, part] = rest.split('/')
    const item = this.all(collection).find((each) => each[id] === decodeURIComponent(itemId!))
    if (!item) return { status: 404, body: { error: { message: `Could not find ${one ?? 'image'}: ${rest}.` } } }
    if (part === 'file') {
      Object.assign(item, { status: 'active', size: body.length, os_hash_algo: 'sha512', os_hash_value: createHash('sha512').update(body).digest('hex') })
      return { status: 204 }
    }
    if (method === 'DELETE') {
      if (collection === '/v3/domains' && item['enabled'] !== false) return { status: 403, body: { error: { message: 'Cannot delete a domain that is enabled, please disable it first.' } } }
      this.items.set(collection, this.all(collection).filter((each) => each !== item))
      return { status: 204 }
    }
    if (Array.isArray(body)) for (const { path, value } of body as { path: string; value: unknown }[]) item[path.slice(1)] = value
    else Object.assign(item, body[one!])
    return { status: 200, body: { [one ?? 'image']: this.#shown(item) } }
  }

  #shown({ password: _never, ...item }: Item): Item {
    return item
  }
}

/** A cloud that ends with the test. */
export async function startCloud(t: Test): Promise<TestCloud> {
  const cloud = new TestCloud()
  const server = createServer((request, response) => void cloud.answer(request, response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  cloud.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return cloud
}
