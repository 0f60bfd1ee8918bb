"""Makes what a command of the kind `openstack` lists (standard input: its spec) in a cloud that has none of it: one process and one token, over keystoneauth1, on which the stock client stands.

It looks up what it needs the id of, and nothing else. What several commands make at once, such as the project of the services, is made by the first of them.
"""
import json
import sys

from keystoneauth1.exceptions import Conflict
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

spec = json.load(sys.stdin)
asks = spec['auth']
plugin = Password(
    auth_url=asks['url'], username=asks['user'], password=asks['password'], user_domain_name=asks.get('userDomain', 'Default'),
    project_name=asks['project'], project_domain_name=asks.get('projectDomain', 'Default'),
)
cloud = Session(auth=plugin)
access = plugin.get_access(cloud)

services = {
    'domain': 'identity', 'project': 'identity', 'user': 'identity', 'role': 'identity', 'service': 'identity', 'endpoint': 'identity',
    'flavor': 'compute', 'keypair': 'compute', 'image': 'image',
    'network': 'network', 'subnet': 'network', 'router': 'network', 'security_group': 'network', 'security_group_rule': 'network',
}
versions = {'compute': '', 'image': '/v2', 'network': '/v2.0'}
ids = {}


def address(service, path):
    if service == 'identity':
        return asks['url'].rstrip('/') + path
    return access.service_catalog.url_for(service_type=service, interface='public', region_name=asks.get('region')).rstrip('/') + versions[service] + path


def collection(kind):
    return address(services[kind], '/os-keypairs' if kind == 'keypair' else '/' + kind.replace('_', '-') + 's')


def find(kind, name, **where):
    """The id of what has this name there."""
    key = (kind, name, *where.values())
    if key not in ids:
        answer = cloud.get(collection(kind), params={'name': name, **where}).json()
        [found] = answer[kind + 's']
        ids[key] = found['id']
    return ids[key]


def make(kind, fields, **where):
    """The id of what is made; of a domain, project, user or role that is there already, its id."""
    fields = {key: value for key, value in {**fields, **where}.items() if value is not None}
    try:
        answer = cloud.post(collection(kind), json=fields if kind == 'image' else {kind: fields}).json()
    except Conflict:
        if kind not in ('domain', 'project', 'user', 'role'):
            raise
        return find(kind, fields['name'], **where)
    made = answer if kind == 'image' else answer[kind]
    ids[(kind, fields.get('name'), *where.values())] = made.get('id')
    return made.get('id')


def domain_of(name):
    return find('domain', name or 'Default')


def grant(given):
    if 'project' in given:
        target = '/projects/' + find('project', given['project'], domain_id=domain_of(given.get('projectDomain')))
    else:
        target = '/domains/' + domain_of(given['domain'])
    user = find('user', given['user'], domain_id=domain_of(given.get('userDomain')))
    cloud.put(address('identity', f"{target}/users/{user}/roles/{find('role', given['role'])}"))


def service(given):
    made = make('service', {'type': given['type'], 'name': given.get('name', given['type']), 'description': given.get('description')})
    for interface, url in given.get('endpoints', {}).items():
        make('endpoint', {'service_id': made, 'interface': interface, 'region_id': given.get('region', asks.get('region')), 'url': url})


def subnet(given):
    fields = {
        'name': given['name'], 'network_id': find('network', given['network']), 'description': given.get('description'), 'cidr': given['cidr'], 'ip_version': 6 if ':' in given['cidr'] else 4,
        'gateway_ip': given.get('gateway'), 'allocation_pools': given.get('pools'), 'dns_nameservers': given.get('dns'), 'enable_dhcp': given.get('dhcp'),
    }
    make('subnet', fields)


def router(given):
    gateway = {'network_id': find('network', given['externalNetwork'])} if 'externalNetwork' in given else None
    made = make('router', {'name': given['name'], 'description': given.get('description'), 'external_gateway_info': gateway})
    for name in given.get('subnets', []):
        cloud.put(address('network', f'/routers/{made}/add_router_interface'), json={'subnet_id': find('subnet', name)})


def rule(given):
    ports = given.get('ports', {})
    fields = {
        'security_group_id': find('security_group', given['group'], project_id=access.project_id), 'direction': given.get('direction', 'ingress'), 'ethertype': given.get('ethertype', 'IPv4'),
        'protocol': given.get('protocol'), 'port_range_min': ports.get('first'), 'port_range_max': ports.get('last'), 'remote_ip_prefix': given.get('remoteCidr'),
    }
    make('security_group_rule', fields)


def image(given):
    own = given['diskFormat'] if given['diskFormat'] in ('aki', 'ari', 'ami') else 'bare'
    fields = {
        'name': given['name'], 'disk_format': given['diskFormat'], 'container_format': given.get('containerFormat', own), 'visibility': given.get('visibility'),
        'kernel_id': find('image', given['kernel']) if 'kernel' in given else None, 'ramdisk_id': find('image', given['ramdisk']) if 'ramdisk' in given else None,
        **given.get('properties', {}),
    }
    made = make('image', fields)
    with open(given['file'], 'rb') as content:
        cloud.put(address('image', f'/images/{made}/file'), data=content, headers={'Content-Type': 'application/octet-stream'})


makers = {
    'domain': lambda given: make('domain', given),
    'project': lambda given: make('project', {'name': given['name'], 'description': given.get('description')}, domain_id=domain_of(given.get('domain'))),
    'user': lambda given: make('user', {key: given.get(key) for key in ('name', 'password', 'description')}, domain_id=domain_of(given.get('domain'))),
    'role': lambda given: make('role', given),
    'grant': grant,
    'service': service,
    'flavor': lambda given: make('flavor', {'name': given['name'], 'vcpus': given['vcpus'], 'ram': given['ramMiB'], 'disk': given['diskGiB']}),
    'keypair': lambda given: make('keypair', {'name': given['name'], 'public_key': given['publicKey']}),
    'network': lambda given: make('network', {
        'name': given['name'], 'description': given.get('description'), 'provider:network_type': given.get('type'), 'provider:physical_network': given.get('physicalNetwork'),
        'provider:segmentation_id': given.get('segment'), 'shared': given.get('shared'), 'router:external': given.get('external'), 'mtu': given.get('mtu'),
    }),
    'subnet': subnet,
    'router': router,
    'securityGroupRule': rule,
    'image': image,
}

for resource in spec['resources']:
    [(kind, given)] = resource.items()
    makers[kind](given)
