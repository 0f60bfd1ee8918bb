/** Where the services of a cloud are, by the catalogue that comes with a token. */
import type { OpenstackAuth } from '@lichen/core'
import { ApiFailure } from './api-failure.js'

/** Types of the services that have a row in the table, with the version of their API that the rows are written for. */
const versions = { identity: 'v3', compute: 'v2.1', network: 'v2.0', image: 'v2' } as const
export type ServiceType = keyof typeof versions

interface Endpoint {
  readonly interface: string
  readonly region: string
  readonly url: string
}

export type Catalogue = readonly { readonly type: string; readonly endpoints: readonly Endpoint[] }[]

/** Where the API of the service begins, without a slash at the end. @throws COMMAND_OPENSTACK_NO_ENDPOINT when the catalogue does not say, or names several. */
export function findEndpoint(catalogue: Catalogue, type: ServiceType, auth: Pick<OpenstackAuth, 'interface' | 'region'>): string {
  const wanted = auth.interface ?? 'public'
  const all = catalogue.filter((service) => service.type === type).flatMap((service) => service.endpoints)
  const where = `${wanted} endpoint of a service of type ${type}${auth.region === undefined ? '' : ` in region ${auth.region}`}`
  const found = all.filter((endpoint) => endpoint.interface === wanted && (auth.region === undefined || endpoint.region === auth.region))
  const urls = [...new Set(found.map(({ url }) => url))]
  if (urls.length > 1) throw new ApiFailure('COMMAND_OPENSTACK_NO_ENDPOINT', `the catalogue has more than one ${where}: ${found.map(({ region, url }) => `${url} (region ${region})`).join(', ')}`)
  if (urls[0] !== undefined) return withVersion(urls[0], type)
  throw new ApiFailure('COMMAND_OPENSTACK_NO_ENDPOINT', `the catalogue has no ${where}; ${all.length > 0 ? `it has ${describe(all)}` : describeServices(catalogue)}`)
}

/** The URL of the API's version: where an endpoint does not name one, this kind of command's own. */
export function withVersion(url: string, type: ServiceType): string {
  const trimmed = url.replace(/\/+$/, '')
  return new URL(trimmed).pathname.split('/').some((part) => /^v\d/.test(part)) ? trimmed : `${trimmed}/${versions[type]}`
}

const describe = (endpoints: readonly Endpoint[]): string => [...new Set(endpoints.map((endpoint) => `${endpoint.interface} in region ${endpoint.region}`))].join(', ')

function describeServices(catalogue: Catalogue): string {
  const types = [...new Set(catalogue.map((service) => service.type))]
  const regions = [...new Set(catalogue.flatMap((service) => service.endpoints.map((endpoint) => endpoint.region)))]
  return types.length === 0 ? 'it is empty' : `it has services of type ${types.join(', ')}, in region ${regions.join(', ')}`
}
