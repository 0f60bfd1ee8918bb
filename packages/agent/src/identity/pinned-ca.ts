/** Finding the deployment's CA before anything is said: the gateway shows its certificate chain, and the join token says which CA must stand in it. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { connect, type DetailedPeerCertificate } from 'node:tls'
import { LichenError } from '@lichen/core'

/** The name in every gateway's certificate: agents reach gateways by any address and expect this name. */
export const gatewayName = 'gateway.lichen.internal'
const handshakeTimeoutMs = 10_000

/** Host and port of `host:port`, `[v6]:port`. Throws REQUEST_SHAPE when it is not of this form. */
export function parseAddress(gateway: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:\s]+)):(\d{1,5})$/.exec(gateway)
  const port = Number(match?.[3])
  if (!match || port < 1 || port > 65_535) throw new LichenError('REQUEST_SHAPE', `gateway: expected host:port, found ${JSON.stringify(gateway)}`)
  return { host: (match[1] ?? match[2])!, port }
}

/**
 * The CA certificate (DER) with this SHA-256 digest, from the chain that the gateway shows. Nothing but the TLS handshake is sent.
 * @throws JOIN_CA_MISMATCH when the gateway's chain has no such certificate.
 * @throws AGENT_UNREACHABLE when no TLS connection comes about.
 */
export async function fetchPinnedCa(gateway: string, caDigest: string): Promise<Buffer> {
  const chain = await fetchChain(gateway)
  const expected = Buffer.from(caDigest, 'hex')
  const ca = chain.find((certificate) => timingSafeEqual(createHash('sha256').update(certificate).digest(), expected))
  if (!ca) throw new LichenError('JOIN_CA_MISMATCH', `the gateway ${gateway} shows ${chain.length} certificate(s), and none is the CA that the join token names`)
  return ca
}

function fetchChain(gateway: string): Promise<Buffer[]> {
  const { host, port } = parseAddress(gateway)
  return new Promise((resolve, reject) => {
    // Not verified here on purpose: who it is gets decided by the digest, and the calls that follow trust only that CA.
    const socket = connect({ host, port, servername: gatewayName, rejectUnauthorized: false, ALPNProtocols: ['h2'], timeout: handshakeTimeoutMs })
    const fail = (cause: Error): void => {
      socket.destroy()
      reject(new LichenError('AGENT_UNREACHABLE', `no TLS connection to the gateway ${gateway}: ${cause.message}`, { cause }))
    }
    socket.once('error', fail)
    socket.once('timeout', () => fail(new Error(`no answer within ${handshakeTimeoutMs} ms`)))
    socket.once('secureConnect', () => {
      const chain = listChain(socket.getPeerCertificate(true))
      socket.destroy()
      resolve(chain)
    })
  })
}

function listChain(first: DetailedPeerCertificate): Buffer[] {
  const chain: Buffer[] = []
  for (let certificate: DetailedPeerCertificate | undefined = first; certificate?.raw; certificate = certificate.issuerCertificate) {
    if (chain.some((known) => known.equals(certificate!.raw))) break
    chain.push(certificate.raw)
  }
  return chain
}
