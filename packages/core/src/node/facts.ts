/** What a machine says of itself. Sent by its agent at each connection and when it changes. */
import { Type, type Static } from '@sinclair/typebox'

export const FactsSchema = Type.Object(
  {
    hostname: Type.String(),
    /** Address (IPv4 or IPv6) that other nodes and the engine reach it at: the source address of its way to the gateway. */
    address: Type.String(),
    addresses: Type.Array(Type.Object({ interface: Type.String(), address: Type.String(), family: Type.Union([Type.Literal('ipv4'), Type.Literal('ipv6')]) })),
    os: Type.Object({ id: Type.String(), version: Type.String(), codename: Type.String(), prettyName: Type.String() }),
    kernel: Type.String(),
    architecture: Type.String(),
    cpus: Type.Integer(),
    memoryBytes: Type.Integer(),
    diskFreeBytes: Type.Integer(),
    bootId: Type.String(),
    virtualization: Type.String(),
    cgroupVersion: Type.Integer(),
    packageManager: Type.Union([Type.Literal('apt'), Type.Literal('none')]),
    /** Directory that a local agent without root confines its effects to; absent on a real node. */
    confinedTo: Type.Optional(Type.String()),
    init: Type.Union([Type.Literal('systemd'), Type.Literal('other')]),
  },
  { $id: 'Facts' },
)

/** Facts of one node. Sizes in bytes. */
export type Facts = Static<typeof FactsSchema>
