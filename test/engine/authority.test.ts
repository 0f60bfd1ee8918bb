import { createPublicKey, verify, X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import { nodeId } from '@lichen/core'
import { openAuthority, openSealer } from '@lichen/engine'
import { openSqliteStore } from '@lichen/store'
import t, { type Test } from 'tap'
import { makeForgedIdentity, makeRequest } from './fake-node.js'

const sealer = openSealer(Buffer.alloc(32, 3))

async function openStore(t: Test) {
  const store = await openSqliteStore({ path: join(t.testdir(), 'lichen.db') })
  t.teardown(() => store.close())
  return store
}

t.test('engines that start at once agree on one authority and one key for orders', async (t) => {
  const store = await openStore(t)
  const [first, second] = await Promise.all([openAuthority({ store, sealer, now: Date.now }), openAuthority({ store, sealer, now: Date.now })])
  const later = await openAuthority({ store, sealer, now: Date.now })
  t.equal(first?.caDigest, second?.caDigest)
  t.equal(later.caDigest, first?.caDigest)
  t.strictSame(later.signingKeys, first?.signingKeys)
  t.equal(later.signer.keyId, second?.signer.keyId)
})

t.test('the keys are of no use without the master key', async (t) => {
  const store = await openStore(t)
  await openAuthority({ store, sealer, now: Date.now })
  await t.rejects(openAuthority({ store, sealer: openSealer(Buffer.alloc(32, 4)), now: Date.now }), { code: 'SERVER_MASTER_KEY' })
  for (const { sealed } of await store.secrets.readSecrets('server')) t.notOk(Buffer.from(sealed).includes('PRIVATE KEY'))
})

t.test('an order is signed with the key that nodes are told', async (t) => {
  const authority = await openAuthority({ store: await openStore(t), sealer, now: Date.now })
  const raw = authority.signingKeys[0]!.publicKey
  t.equal(raw.length, 32)
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') }, format: 'jwk' })
  t.ok(verify(null, Buffer.from('x'), key, authority.signer.sign(Buffer.from('x'))))
})

t.test('a node certificate names node and registration, is for clients alone, and ends when it should', async (t) => {
  let clock = Date.now()
  const authority = await openAuthority({ store: await openStore(t), sealer, now: () => clock })
  const { request } = await makeRequest()
  const der = await authority.issueNodeCertificate(nodeId('n1'), request, 60_000)
  const certificate = new X509Certificate(der)
  t.equal(certificate.subject, 'CN=n1')
  t.strictSame(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2'])
  t.equal(certificate.ca, false)
  t.match(authority.checkNodeCertificate(der), { node: 'n1', registration: await authority.digestRequestKey(request) })
  t.match(authority.checkNodeCertificate(await authority.issueNodeCertificate(nodeId('n1'), request, 60_000, 'a'.repeat(64))), { registration: 'a'.repeat(64) })
  clock += 61_000
  t.throws(() => authority.checkNodeCertificate(der), { code: 'AGENT_UNAUTHENTICATED', message: /expired/ })
  clock -= 3_600_000
  t.throws(() => authority.checkNodeCertificate(der), { code: 'AGENT_UNAUTHENTICATED', message: /not valid before/ })
})

t.test('certificates that others made are not believed', async (t) => {
  const store = await openStore(t)
  const authority = await openAuthority({ store, sealer, now: Date.now })
  const foreign = await openAuthority({ store: await openStore(t), sealer, now: Date.now })
  const derOf = (pem: string): Buffer => new X509Certificate(pem).raw
  for (const signer of ['itself', 'another CA'] as const) {
    const { certificatePem } = await makeForgedIdentity('', 'n1', 'a'.repeat(64), signer)
    t.throws(() => authority.checkNodeCertificate(derOf(certificatePem!)), { code: 'AGENT_UNAUTHENTICATED', message: /not issued by the authority/ }, signer)
  }
  const { request } = await makeRequest()
  const other = await foreign.issueNodeCertificate(nodeId('n1'), request, 60_000)
  t.throws(() => authority.checkNodeCertificate(other), { code: 'AGENT_UNAUTHENTICATED' }, 'another deployment, whose CA has the same name')
  t.throws(() => authority.checkNodeCertificate(Buffer.from('x')), { code: 'AGENT_UNAUTHENTICATED', message: /cannot be read/ })
  t.throws(() => authority.checkNodeCertificate(authority.caCertificate), { code: 'AGENT_UNAUTHENTICATED' }, 'the authority itself is no node')
  const gateway = await authority.issueGatewayCertificate()
  t.throws(() => authority.checkNodeCertificate(derOf(gateway.chainPem)), { code: 'AGENT_UNAUTHENTICATED', message: /not the certificate of a node/ })
  t.ok(new X509Certificate(gateway.chainPem).checkHost('gateway.lichen.internal'))
})
