/** The table of kinds, and which parts a resource of a spec is made of. */
import type { OpenstackAuth, OpenstackResource } from '@lichen/core'
import { ApiFailure } from './api-failure.js'
import { computeKinds } from './compute-kinds.js'
import { identityKinds } from './identity-kinds.js'
import { image } from './image-kind.js'
import type { Kind, Part, Values } from './kind.js'
import { networkKinds } from './network-kinds.js'

const kinds: Readonly<Record<string, Kind>> = { ...identityKinds, ...computeKinds, ...networkKinds, image }

/** The row of this kind. */
export function kindOf(name: string): Kind {
  const kind = kinds[name]
  if (kind === undefined) throw new Error(`no kind ${name} in the table`)
  return kind
}

type Given<Name extends keyof OpenstackResource> = NonNullable<OpenstackResource[Name]>

/** How resources become parts, where they are not one part of the same kind with the same fields. */
const splits: { readonly [Name in keyof OpenstackResource]?: (given: Given<Name>, auth: OpenstackAuth) => readonly Part[] } = {
  grant: (given) => {
    const targets = (['project', 'domain', 'system'] as const).filter((name) => given[name] !== undefined)
    if (targets.length !== 1) throw new ApiFailure('COMMAND_BAD_SPEC', `grant of ${given.role} to user ${given.user}: exactly one of project, domain and system must be given`)
    return [{ kind: `grantOn${targets[0]!.charAt(0).toUpperCase()}${targets[0]!.slice(1)}`, values: given }]
  },
  service: ({ endpoints, region: own, ...given }, auth) => {
    const region = own ?? auth.region
    if (endpoints && region === undefined) throw new ApiFailure('COMMAND_BAD_SPEC', `service ${given.type}: its endpoints need a region`)
    const urls = Object.entries(endpoints ?? {})
    return [{ kind: 'service', values: { ...given, name: given.name ?? given.type, region } }, ...urls.map(([name, url]) => ({ kind: 'endpoint', values: { service: given.type, interface: name, region, url } }))]
  },
  flavor: ({ extraSpecs, ...given }) => [{ kind: 'flavor', values: given }, ...(extraSpecs ? [{ kind: 'flavorSpecs', values: { flavor: given.name, specs: extraSpecs } }] : [])],
  quota: ({ compute, network, ...project }) => [
    ...(compute ? [{ kind: 'computeQuota', values: { ...project, limits: compute } }] : []),
    ...(network ? [{ kind: 'networkQuota', values: { ...project, limits: network } }] : []),
  ],
  subnet: (given) => [{ kind: 'subnet', values: { ...given, version: given.cidr.includes(':') ? 6 : 4 } }],
  router: ({ subnets = [], ...given }) => [{ kind: 'router', values: given }, ...subnets.map((subnet) => ({ kind: 'routerInterface', values: { router: given.name, subnet } }))],
  securityGroupRule: ({ ports, ...given }) => [{ kind: 'securityGroupRule', values: { ...given, ...(ports && { firstPort: ports.first, lastPort: ports.last }) } }],
  image: ({ file, url, sha256, ...given }) => {
    if ((file === undefined) === (url === undefined) || (url !== undefined && sha256 === undefined)) throw new ApiFailure('COMMAND_BAD_SPEC', `image ${given.name}: exactly one of file and url must be given, and sha256 with url`)
    const containerFormat = given.containerFormat ?? (['aki', 'ari', 'ami'].includes(given.diskFormat) ? given.diskFormat : 'bare')
    return [{ kind: 'image', values: { ...given, containerFormat, content: { file, url, sha256, diskFormat: given.diskFormat } } }]
  },
}

/** The parts, in the order in which they are made. @throws COMMAND_BAD_SPEC when a resource contradicts itself. */
export function splitResources(resources: readonly OpenstackResource[], auth: OpenstackAuth): readonly Part[] {
  return resources.flatMap((resource) => {
    // The schema was checked: there is exactly one.
    const [name, given] = Object.entries(resource)[0] as [keyof OpenstackResource, Values]
    const split = splits[name] as ((given: Values, auth: OpenstackAuth) => readonly Part[]) | undefined
    return split ? split(given, auth) : [{ kind: name, values: given }]
  })
}
