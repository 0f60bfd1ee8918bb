/** Neutron's kinds (Networking API v2.0). */
import { ApiFailure } from './api-failure.js'
import { collection, type Field, type Kind, settings, type Values } from './kind.js'
import type { JsonObject, Session } from './session.js'

const name: Field = { use: 'key' }
const description: Field = {}
/** Names are not unique in a cloud; those of one project should be. */
const project: Field = { api: 'project_id', use: 'key', refers: { kind: 'project' }, apiFallback: (session) => session.projectId }
const titled = (values: Values): string => String(values['name'])
const row = (noun: string, one: string) => ({ service: 'network', noun, one, many: `${one}s`, path: `/${one.replaceAll('_', '-')}s`, owner: 'project_id', title: titled }) as const

/** Ports by which a router is in a subnet, whether it is distributed, highly available or neither. */
const interfaceOwners = ['network:router_interface', 'network:router_interface_distributed', 'network:ha_router_replicated_interface']

async function findInterface({ router, subnet }: Values, session: Session): Promise<JsonObject | undefined> {
  const ports = await session.list({ service: 'network', path: '/ports', query: { device_id: router } }, 'ports')
  return ports.find((port) => interfaceOwners.includes(String(port['device_owner'])) && (port['fixed_ips'] as readonly JsonObject[]).some((address) => address['subnet_id'] === subnet))
}

const routerInterface: Kind = {
  noun: 'interface of router',
  title: (values) => `${String(values['router'])} in subnet ${String(values['subnet'])}`,
  fields: { router: { use: 'key', refers: { kind: 'router' } }, subnet: { use: 'key', refers: { kind: 'subnet' } } },
  find: findInterface,
  create: async ({ keys: { router, subnet } }, session) => void (await session.write('PUT', { service: 'network', path: `/routers/${String(router)}/add_router_interface` }, { json: { subnet_id: subnet } })),
  remove: async (_found, { router, subnet }, session) => void (await session.write('PUT', { service: 'network', path: `/routers/${String(router)}/remove_router_interface` }, { json: { subnet_id: subnet } })),
}

/** A subnet with addresses in use is not removed, and Neutron does not say whose they are. */
function namingWhoIsIn(subnets: Kind): Kind {
  const remove: Kind['remove'] = async (found, keys, session) => {
    try {
      await subnets.remove?.(found, keys, session)
    } catch (error) {
      if (!(error instanceof ApiFailure) || error.code !== 'COMMAND_OPENSTACK_CONFLICT') throw error
      const ports = await session.list({ service: 'network', path: '/ports', query: { network_id: found['network_id'] } }, 'ports')
      const uses = ports.flatMap((port) => (port['fixed_ips'] as readonly JsonObject[]).filter((address) => address['subnet_id'] === found['id']).map((address) => `${String(address['ip_address'])} (${String(port['device_owner'] || 'a port')} ${String(port['device_id'] || port['id'])})`))
      throw uses.length === 0 ? error : new ApiFailure(error.code, `${error.message}\nin use: ${uses.slice(0, 10).join(', ')}${uses.length > 10 ? ` and ${uses.length - 10} more` : ''}`)
    }
  }
  return { ...subnets, remove }
}

const byStart = (pools: unknown): unknown => (Array.isArray(pools) ? (pools as { start: string; end: string }[]).map(({ start, end }) => `${start}-${end}`).sort() : pools)

/** Rows of the table, by the name of the kind. */
export const networkKinds: Readonly<Record<string, Kind>> = {
  network: collection({
    ...row('network', 'network'),
    update: 'PUT',
    fields: {
      name,
      project,
      description,
      type: { api: 'provider:network_type', use: 'fixed' },
      physicalNetwork: { api: 'provider:physical_network', use: 'fixed' },
      segment: { api: 'provider:segmentation_id', use: 'fixed' },
      shared: {},
      external: { api: 'router:external' },
      mtu: {},
      portSecurity: { api: 'port_security_enabled' },
    },
  }),
  subnet: namingWhoIsIn(collection({
    ...row('subnet', 'subnet'),
    update: 'PUT',
    fields: {
      name,
      network: { api: 'network_id', use: 'key', refers: { kind: 'network' } },
      project,
      description,
      cidr: { use: 'fixed' },
      version: { api: 'ip_version', use: 'fixed' },
      gateway: { api: 'gateway_ip', send: (value) => (value === 'none' ? null : value) },
      pools: { api: 'allocation_pools', normal: byStart },
      dns: { api: 'dns_nameservers' },
      dhcp: { api: 'enable_dhcp' },
    },
  })),
  router: collection({
    ...row('router', 'router'),
    update: 'PUT',
    fields: {
      name,
      project,
      description,
      externalNetwork: { api: 'external_gateway_info', refers: { kind: 'network' }, send: (id) => ({ network_id: id }), normal: (info) => (info as { network_id?: unknown } | null)?.network_id },
    },
  }),
  routerInterface,
  securityGroup: collection({ ...row('security group', 'security_group'), update: 'PUT', fields: { name, project, description } }),
  // A rule has no name: all that it says is its key.
  securityGroupRule: collection({
    ...row('rule of security group', 'security_group_rule'),
    filters: ['security_group_id'],
    title: (values) => `${String(values['group'])}: ${Object.entries(values).filter(([key, value]) => !['group', 'project'].includes(key) && value !== undefined && value !== null).map(([key, value]) => `${key} ${String(value)}`).join(', ')}`,
    fields: {
      group: { api: 'security_group_id', use: 'key', refers: { kind: 'securityGroup', with: { project: 'project' } } },
      direction: { use: 'key', fallback: 'ingress' },
      ethertype: { use: 'key', fallback: 'IPv4' },
      protocol: { use: 'key', apiFallback: () => null },
      firstPort: { api: 'port_range_min', use: 'key', apiFallback: () => null },
      lastPort: { api: 'port_range_max', use: 'key', apiFallback: () => null },
      remoteCidr: { api: 'remote_ip_prefix', use: 'key', apiFallback: () => null },
      remoteGroup: { api: 'remote_group_id', use: 'key', refers: { kind: 'securityGroup', with: { project: 'project' } }, apiFallback: () => null },
    },
  }),
  networkQuota: settings({
    service: 'network',
    noun: 'network quota of project',
    path: (keys) => `/quotas/${String(keys['project'])}`,
    one: 'quota',
    method: 'PUT',
    title: (values) => String(values['project']),
    fields: { project: { use: 'key', refers: { kind: 'project', with: { domain: 'projectDomain' } } }, limits: { isMap: true } },
  }),
}
