// A broker that speaks TLS only with clients that have a certificate of its authority.
import { webcrypto } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
// The X.509 library needs this polyfill to be there before it.
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import t, { type Test } from 'tap'
import { openRabbitBroker } from '@lichen/broker'
import { eventually } from '../eventually.js'
import { startRabbit } from '../rabbitmq.js'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const makeKeys = () => webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']) as Promise<webcrypto.CryptoKeyPair>
const makeValidity = () => ({ notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000) })

async function writeKey(path: string, { privateKey }: webcrypto.CryptoKeyPair): Promise<void> {
  writeFileSync(path, x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', privateKey), 'PRIVATE KEY'))
}

/** Writes an authority, a server certificate for 127.0.0.1 and a client certificate. */
async function writeCertificates(directory: string): Promise<{ readonly ca: string; readonly server: { cert: string; key: string }; readonly client: { cert: string; key: string } }> {
  x509.cryptoProvider.set(webcrypto as never)
  const caKeys = await makeKeys()
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=test authority', keys: caKeys as never, signingAlgorithm: algorithm, serialNumber: '01', ...makeValidity(),
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)],
  })
  const ca = join(directory, 'ca.pem')
  writeFileSync(ca, authority.toString('pem'))
  async function issue(name: string, serialNumber: string, extensions: x509.Extension[]) {
    const keys = await makeKeys()
    const certificate = await x509.X509CertificateGenerator.create({ subject: `CN=${name}`, issuer: authority.subject, publicKey: keys.publicKey as never, signingKey: caKeys.privateKey as never, signingAlgorithm: algorithm, serialNumber, extensions, ...makeValidity() })
    const files = { cert: join(directory, `${name}.pem`), key: join(directory, `${name}.key`) }
    writeFileSync(files.cert, certificate.toString('pem'))
    await writeKey(files.key, keys)
    return files
  }
  const server = await issue('server', '02', [new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }]), new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth])])
  const client = await issue('client', '03', [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth])])
  return { ca, server, client }
}

/** Opens a broker that cannot connect; gives back why. */
async function readRefusal(t: Test, url: string): Promise<string> {
  const warnings: string[] = []
  const quiet = (): void => undefined
  const broker = await openRabbitBroker({ url, log: { debug: quiet, info: quiet, error: quiet, warn: (fields) => warnings.push(String((fields as { err?: unknown }).err)) } })
  t.equal(broker.isConnected(), false)
  await broker.close()
  return warnings.join('\n')
}

t.test('with a RabbitMQ that listens for TLS', { timeout: 100_000 }, async (t) => {
  const { ca, server, client } = await writeCertificates(t.testdir({}))
  const rabbit = await startRabbit(t, { tls: { ca, ...server, isClientChecked: true } })
  if (rabbit === undefined) return
  const clientFiles = `certfile=${client.cert}&keyfile=${client.key}`

  await t.test('a client with a certificate of the broker’s authority publishes, consumes and has a mailbox', async (t) => {
    const broker = await openRabbitBroker({ url: `${rabbit.tlsUrl}?cacertfile=${ca}&${clientFiles}&verify=verify_peer` })
    t.teardown(() => broker.close())
    t.equal(broker.isConnected(), true)
    const received: string[] = []
    await broker.consume('tasks', 1, async (message) => (received.push(message.id), { verdict: 'ack' }))
    await broker.publish('tasks', [{ id: 'm-1', body: '{}' }])
    const box = await broker.openMailbox('engine-1', (message) => received.push(message.from))
    t.equal(await box.send('engine-1', new Uint8Array(3)), true)
    await eventually(t, 'both came', () => received.length === 2)
    t.same(await broker.listDeadLetters(1), [])
  })

  await t.test('a broker whose certificate is of an unknown authority gets no password', async (t) => {
    t.match(await readRefusal(t, `${rabbit.tlsUrl}?${clientFiles}`), /self.signed certificate|unable to get/)
  })

  await t.test('a broker whose certificate is for another host gets no password', async (t) => {
    t.match(await readRefusal(t, `${rabbit.tlsUrl.replace('127.0.0.1', 'localhost')}?cacertfile=${ca}&${clientFiles}`), /Hostname\/IP does not match|altnames/)
  })

  await t.test('a client without a certificate is refused', async (t) => {
    t.not(await readRefusal(t, `${rabbit.tlsUrl}?cacertfile=${ca}`), '')
  })
})
