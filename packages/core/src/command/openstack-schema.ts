/**
 * The `openstack` kind: what is to be there in an OpenStack cloud, brought about over its APIs by one process with one token. What the agent does with each kind of
 * resource is a table in packages/agent/src/primitives/openstack/.
 */
import { type Static, type TProperties, Type } from '@sinclair/typebox'

const strict = { additionalProperties: false } as const
const Name = Type.String({ minLength: 1, maxLength: 255 })
const Text = Type.Optional(Type.String())
const Flag = Type.Optional(Type.Boolean())
const DomainName = Type.Optional(Type.String({ minLength: 1, description: 'Name of the domain. Default: `Default`.' }))
const OwnerName = Type.Optional(Type.String({ minLength: 1, description: 'Name of the project that owns it. Default: that of `auth`.' }))
const Url = Type.String({ pattern: '^https?://[^\\s]+$' })
const AbsolutePath = Type.String({ pattern: '^/' })
const Address = Type.String({ pattern: '^[0-9A-Fa-f.:]+$' })
const Network = Type.String({ pattern: '^[0-9A-Fa-f.:]+/[0-9]{1,3}$', description: 'In CIDR notation.' })
const Texts = Type.Record(Type.String(), Type.String())
const Limits = Type.Optional(Type.Record(Type.String(), Type.Integer({ minimum: -1 }), { description: 'By the name that the API has for it; -1: no limit.' }))
const count = (minimum: number) => Type.Integer({ minimum })
const resource = <Properties extends TProperties>(properties: Properties) => Type.Optional(Type.Object(properties, strict))

/** Who asks, and for which endpoints. */
const AuthSchema = Type.Object(
  {
    url: Type.String({ pattern: '^https?://[^\\s]+$', description: 'The identity API, e.g. `http://10.0.0.1:5000/v3`.' }),
    user: Name,
    password: Type.String({ minLength: 1 }),
    userDomain: DomainName,
    project: Type.Optional(Type.String({ minLength: 1, description: 'The project to act in. Exactly one of `project` and `system`.' })),
    projectDomain: DomainName,
    system: Type.Optional(Type.Literal(true, { description: 'Act on the whole system: a token of system scope.' })),
    region: Type.Optional(Type.String({ minLength: 1, description: 'Region of the endpoints. Needed when the cloud has several, and by `service`.' })),
    interface: Type.Optional(Type.Union([Type.Literal('public'), Type.Literal('internal'), Type.Literal('admin')], { description: 'Which endpoints are asked. Default: public.' })),
    caFile: Type.Optional(Type.String({ pattern: '^/', description: 'Certificates (PEM, on the node) that the endpoints are trusted by. Default: those that Node.js comes with.' })),
  },
  strict,
)

/** One resource: exactly one of these keys. Fields that are left out are left as they are. */
export const OpenstackResourceSchema = Type.Object(
  {
    region: resource({ name: Name, description: Text }),
    domain: resource({ name: Name, description: Text }),
    project: resource({ name: Name, domain: DomainName, description: Text }),
    user: resource({ name: Name, domain: DomainName, password: Text, email: Text, description: Text, defaultProject: Type.Optional(Name) }),
    role: resource({ name: Name, description: Text }),
    grant: resource({ role: Name, user: Name, userDomain: DomainName, project: Type.Optional(Name), projectDomain: DomainName, domain: Type.Optional(Name), system: Type.Optional(Type.Literal(true)) }),
    service: resource({
      type: Name,
      name: Type.Optional(Name),
      description: Text,
      region: Type.Optional(Type.String({ minLength: 1, description: 'Of its endpoints. Default: that of `auth`.' })),
      endpoints: Type.Optional(Type.Object({ public: Type.Optional(Url), internal: Type.Optional(Url), admin: Type.Optional(Url) }, strict)),
    }),
    flavor: resource({ name: Name, vcpus: count(1), ramMiB: count(1), diskGiB: count(0), ephemeralGiB: Type.Optional(count(0)), swapMiB: Type.Optional(count(0)), public: Flag, extraSpecs: Type.Optional(Texts) }),
    keypair: resource({ name: Name, publicKey: Type.String({ minLength: 1 }) }),
    quota: resource({ project: Name, projectDomain: DomainName, compute: Limits, network: Limits }),
    network: resource({
      name: Name,
      project: OwnerName,
      description: Text,
      type: Type.Optional(Type.String({ description: 'Of the provider network: `flat`, `vlan`, `vxlan`…' })),
      physicalNetwork: Text,
      segment: Type.Optional(count(0)),
      shared: Flag,
      external: Flag,
      mtu: Type.Optional(count(68)),
      portSecurity: Flag,
    }),
    subnet: resource({
      name: Name,
      network: Name,
      project: OwnerName,
      description: Text,
      cidr: Network,
      gateway: Type.Optional(Type.Union([Address, Type.Literal('none')])),
      pools: Type.Optional(Type.Array(Type.Object({ start: Address, end: Address }, strict))),
      dns: Type.Optional(Type.Array(Address)),
      dhcp: Flag,
    }),
    router: resource({ name: Name, project: OwnerName, description: Text, externalNetwork: Type.Optional(Name), subnets: Type.Optional(Type.Array(Name)) }),
    securityGroup: resource({ name: Name, project: OwnerName, description: Text }),
    securityGroupRule: resource({
      group: Name,
      project: OwnerName,
      direction: Type.Optional(Type.Union([Type.Literal('ingress'), Type.Literal('egress')], { description: 'Default: ingress.' })),
      ethertype: Type.Optional(Type.Union([Type.Literal('IPv4'), Type.Literal('IPv6')], { description: 'Default: IPv4.' })),
      protocol: Type.Optional(Type.String({ description: '`tcp`, `udp`, `icmp`… Default: any.' })),
      ports: Type.Optional(Type.Object({ first: count(0), last: count(0) }, { ...strict, description: 'For icmp: type and code.' })),
      remoteCidr: Type.Optional(Network),
      remoteGroup: Type.Optional(Name),
    }),
    image: resource({
      name: Name,
      file: Type.Optional(AbsolutePath),
      url: Type.Optional(Url),
      sha256: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$', description: 'Of the content; needed with `url`.' })),
      diskFormat: Type.Union(['raw', 'qcow2', 'vmdk', 'vdi', 'vhd', 'vhdx', 'iso', 'aki', 'ari', 'ami'].map((format) => Type.Literal(format))),
      containerFormat: Type.Optional(Type.String({ description: 'Default: `bare`; for aki, ari and ami the same as `diskFormat`.' })),
      visibility: Type.Optional(Type.Union([Type.Literal('public'), Type.Literal('private'), Type.Literal('shared')])),
      protected: Flag,
      minDiskGiB: Type.Optional(count(0)),
      minRamMiB: Type.Optional(count(0)),
      kernel: Type.Optional(Type.String({ minLength: 1, description: 'Name of an image of format aki.' })),
      ramdisk: Type.Optional(Type.String({ minLength: 1, description: 'Name of an image of format ari.' })),
      properties: Type.Optional(Texts),
    }),
  },
  { ...strict, minProperties: 1, maxProperties: 1, description: 'Exactly one kind of resource.' },
)

/** Resources of an OpenStack cloud, there or not. Check: the cloud's APIs; a password is checked by asking for a token with it. Present they are made in order, absent they go in reverse. */
export const OpenstackSchema = Type.Object(
  {
    auth: AuthSchema,
    state: Type.Optional(Type.Union([Type.Literal('present'), Type.Literal('absent')])),
    resources: Type.Array(OpenstackResourceSchema),
  },
  strict,
)

export type OpenstackResource = Static<typeof OpenstackResourceSchema>
export type OpenstackAuth = Static<typeof AuthSchema>
