import type { NetworkInterfaceInfo } from 'node:os'

/**
 * `host:port` at which nodes reach a gateway that listens on `host`. A wildcard stands for the first IPv4 address of this machine that is not
 * loopback (IPv6 when there is none; loopback when there is neither).
 */
export function chooseAdvertisedAddress(host: string, port: number, interfaces: Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>): string {
  const join = (address: string) => `${address.includes(':') ? `[${address}]` : address}:${port}`
  if (host !== '0.0.0.0' && host !== '::') return join(host)
  const addresses = Object.values(interfaces).flatMap((entries) => entries ?? [])
  const outside = addresses.filter((entry) => !entry.internal && !entry.address.startsWith('fe80:'))
  return join((outside.find((entry) => entry.family === 'IPv4') ?? outside[0])?.address ?? '127.0.0.1')
}
