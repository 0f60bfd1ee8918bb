import { connect as connectPlainly } from 'node:net'
import { connect } from 'node:tls'
import { nodeId, parseJoinToken } from '@lichen/core'
import t from 'tap'
import { eventually } from '../eventually.js'
import { openPath } from '../path.js'
import { startSystem } from '../scenarios/system.js'
import { callJoin, callRenew, connectNode, FakeNode, joinNode, makeForgedIdentity, makeRequest, makeRsaRequest, openClient, refusalOf, sendGarbage } from './fake-node.js'

t.test('a stream is opened for the certificate of a registered node alone', async (t) => {
  const system = await startSystem(t)
  const gateway = system.gateway()
  const caPem = system.authority.caCertificatePem
  const identity = await joinNode(t, gateway, caPem, await system.makeToken(), 'n1')
  const unsigned = /^AGENT_UNAUTHENTICATED: the connection shows no certificate that the authority of this deployment signed/

  t.match(await refusalOf(t, gateway, { caPem }), unsigned, 'no certificate')
  t.match(await refusalOf(t, gateway, await makeForgedIdentity(caPem, 'n1', identity.keyDigest, 'itself')), unsigned, 'a self-signed certificate that says the same')
  t.match(await refusalOf(t, gateway, await makeForgedIdentity(caPem, 'n1', identity.keyDigest, 'another CA')), /^AGENT_UNAUTHENTICATED|^Connection dropped|^No connection/, 'the certificate of another CA with the same name: OpenSSL may end the handshake by itself')

  const { request, keyPem } = await makeRequest()
  const stranger = await system.authority.issueNodeCertificate(nodeId('n9'), request, 60_000)
  const pem = `-----BEGIN CERTIFICATE-----\n${stranger.toString('base64').match(/.{1,64}/g)!.join('\n')}\n-----END CERTIFICATE-----\n`
  t.match(await refusalOf(t, gateway, { caPem, keyPem, certificatePem: pem }, 'n9'), /^AGENT_UNAUTHENTICATED: node n9 is not registered any more/, 'our CA, but no such node')

  const expired = await system.authority.issueNodeCertificate(nodeId('n1'), request, -60_000, identity.keyDigest)
  const expiredPem = `-----BEGIN CERTIFICATE-----\n${expired.toString('base64').match(/.{1,64}/g)!.join('\n')}\n-----END CERTIFICATE-----\n`
  t.match(await refusalOf(t, gateway, { caPem, keyPem, certificatePem: expiredPem }), /^AGENT_UNAUTHENTICATED/, 'expired')

  const server = await system.authority.issueGatewayCertificate()
  t.match(await refusalOf(t, gateway, { caPem, keyPem: server.keyPem, certificatePem: server.chainPem }), /^AGENT_UNAUTHENTICATED/, 'the certificate of a gateway')

  t.ok((await connectNode(t, gateway, identity, 'n1')).isWelcome, 'the real one')
})

t.test('a certificate is renewed for another key, and the registration stays', async (t) => {
  const system = await startSystem(t)
  const caPem = system.authority.caCertificatePem
  const identity = await joinNode(t, system.gateway(), caPem, await system.makeToken(), 'n1')
  const { request, keyPem } = await makeRequest()
  await t.rejects(callRenew(openClient(t, system.gateway(), { caPem }), request), { message: /AGENT_UNAUTHENTICATED/ })
  await t.rejects(callRenew(openClient(t, system.gateway(), identity), Buffer.from('nonsense')), { message: /JOIN_BAD_REQUEST/ })
  const { certificate } = await callRenew(openClient(t, system.gateway(), identity), request)
  const renewed = { caPem, keyPem, certificatePem: `-----BEGIN CERTIFICATE-----\n${certificate.toString('base64').match(/.{1,64}/g)!.join('\n')}\n-----END CERTIFICATE-----\n` }
  t.ok((await connectNode(t, system.gateway(), renewed, 'n1')).isWelcome)
  t.ok((await connectNode(t, system.gateway(), identity, 'n1')).isWelcome, 'the old one is good until it expires: the answer may have been lost')
  await system.store.nodes.deleteNode(nodeId('n1'))
  await eventually(t, 'both are out', async () => /not registered/.test(await refusalOf(t, system.gateway(), renewed)) && /not registered/.test(await refusalOf(t, system.gateway(), identity)))
})

t.test('joining refuses what is malformed, with a code and a sentence', async (t) => {
  const system = await startSystem(t)
  const client = openClient(t, system.gateway(), { caPem: system.authority.caCertificatePem })
  const token = parseJoinToken(await system.makeToken({ usesLeft: 1 })).secret
  const { request } = await makeRequest()
  const good = { token, nodeName: 'n1', certificateRequest: request }
  for (const nodeName of ['', 'N1', 'a b', '-x', 'a'.repeat(64), '../n1', 'n1\n']) await t.rejects(callJoin(client, { ...good, nodeName }), { message: /JOIN_BAD_REQUEST: the node name/ }, JSON.stringify(nodeName))
  await t.rejects(callJoin(client, { ...good, certificateRequest: Buffer.from('x') }), { message: /JOIN_BAD_REQUEST: the certificate request cannot be read/ })
  await t.rejects(callJoin(client, { ...good, certificateRequest: (await makeRequest({ isForged: true })).request }), { message: /JOIN_BAD_REQUEST: the certificate request is not signed by its own key/ })
  await t.rejects(callJoin(client, { ...good, certificateRequest: await makeRsaRequest() }), { message: /JOIN_BAD_REQUEST: the certificate request must have a key on P-256/ })
  await t.rejects(callJoin(client, { ...good, labels: { 'bad key': 'x' } }), { message: /JOIN_BAD_REQUEST/ })
  await t.rejects(callJoin(client, { ...good, labels: Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`l${index}`, ''])) }), { message: /JOIN_BAD_REQUEST/ })
  await t.rejects(callJoin(client, { ...good, token: 'wrong' }), { message: /JOIN_TOKEN_INVALID/ })
  t.strictSame(await system.store.nodes.listNodes(), [], 'nobody came in')
  t.equal((await callJoin(client, good)).nodeId, 'n1', 'and no use of the token was spent')
  t.equal((await callJoin(client, good)).nodeId, 'n1', 'the same request again, after a lost answer')
})

t.test('a node whose path breaks without a word loses its stream and is lost in time; one that says its heartbeats keeps it', async (t) => {
  const system = await startSystem(t, { limits: { heartbeatIntervalMs: 500, silenceMs: 1_200 } })
  const path = await openPath(t, system.gateway())
  const nodes = new Map<string, FakeNode>()
  for (const [node, gateway] of [['n1', system.gateway()], ['n2', path.address]] as const) {
    nodes.set(node, await connectNode(t, gateway, await joinNode(t, gateway, system.authority.caCertificatePem, await system.makeToken(), node), node))
  }
  const beating = setInterval(() => nodes.forEach((node) => node.say({ $case: 'heartbeat', value: { facts: '' } })), 500)
  t.teardown(() => clearInterval(beating))
  const sessions = async (): Promise<string | undefined> => /lichen_agent_sessions (\d+)/.exec(await system.registry().getSingleMetricAsString('lichen_agent_sessions'))?.[1]
  const stateOf = async (node: string): Promise<string | undefined> => (await system.store.nodes.listNodes()).find(({ id }) => id === node)?.state
  await eventually(t, 'both are there', async () => (await sessions()) === '2')
  path.freeze()
  const since = performance.now()
  await eventually(t, 'its stream is closed', async () => (await sessions()) === '1')
  t.notOk(nodes.get('n2')!.error ?? nodes.get('n2')!.isEnded, 'the other end knows nothing of it')
  await eventually(t, 'it is lost', async () => (await stateOf('n2')) === 'lost')
  t.ok(performance.now() - since < 5_000, `${performance.now() - since} ms`)
  t.equal(await stateOf('n1'), 'ready')
  t.notOk(nodes.get('n1')!.error ?? nodes.get('n1')!.isEnded)
})

t.test('nodes are told to say heartbeats less often when there are more of them, and as often as before when they are fewer', async (t) => {
  const system = await startSystem(t, { limits: { heartbeatIntervalMs: 300, heartbeatsPerSecond: 5, nodesRefreshMs: 200 } })
  const caPem = system.authority.caCertificatePem
  const token = await system.makeToken()
  const connect = async (name: string): Promise<FakeNode> => connectNode(t, system.gateway(), await joinNode(t, system.gateway(), caPem, token, name), name)
  const first = await connect('n1')
  t.same(first.paces, [300])
  for (const name of ['n2', 'n3', 'n4']) await joinNode(t, system.gateway(), caPem, token, name)
  await eventually(t, 'it is told with one of its heartbeats', () => {
    first.say({ $case: 'heartbeat', value: { facts: '' } })
    return first.paces.at(-1) === 800
  })
  t.match((await connect('n5')).paces, [1000], 'who comes later is told at once')
  for (const name of ['n2', 'n3', 'n4', 'n5']) await system.store.nodes.deleteNode(nodeId(name))
  await eventually(t, 'and told again', () => {
    first.say({ $case: 'heartbeat', value: { facts: '' } })
    return first.paces.at(-1) === 300
  })
})

t.test('the second stream of a node takes the place of the first', async (t) => {
  const system = await startSystem(t)
  const identity = await joinNode(t, system.gateway(), system.authority.caCertificatePem, await system.makeToken(), 'n1')
  const first = await connectNode(t, system.gateway(), identity, 'n1')
  const second = await connectNode(t, system.gateway(), identity, 'n1')
  await eventually(t, 'the first is ended', () => first.isEnded)
  t.notOk(second.isEnded)
  t.match(await system.registry().getSingleMetricAsString('lichen_agent_sessions'), /lichen_agent_sessions 1/)
})

t.test('a node that sends garbage loses its own stream and harms nobody else', async (t) => {
  const system = await startSystem(t)
  const caPem = system.authority.caCertificatePem
  const token = await system.makeToken()
  const good = await connectNode(t, system.gateway(), await joinNode(t, system.gateway(), caPem, token, 'n1'), 'n1')
  const bad = await joinNode(t, system.gateway(), caPem, token, 'n2')

  for (const bytes of [Buffer.from([0xff, 0xff, 0xff, 0xff]), Buffer.from('hello'), Buffer.alloc(1000, 7)]) {
    const garbage = sendGarbage(t, system.gateway(), bad, bytes)
    await eventually(t, 'the stream is ended', () => garbage.error)
  }
  const impatient = new FakeNode(openClient(t, system.gateway(), bad).connect())
  impatient.say({ $case: 'heartbeat', value: { facts: '' } })
  t.match((await eventually(t, 'no hello', () => impatient.error)).details, /did not begin with a hello/)
  for (const facts of ['', '{', '{"hostname":"x"}', 'null']) {
    const odd = new FakeNode(openClient(t, system.gateway(), bad).connect())
    odd.say({ $case: 'hello', value: { agentVersion: 'x', bootId: 'b', facts, running: [], instance: 'fake' } })
    t.match((await eventually(t, 'bad facts', () => odd.error)).details, /^ORDER_MALFORMED: the facts/)
  }
  // Not even TLS.
  const socket = connect({ host: '127.0.0.1', port: Number(system.gateway().split(':')[1]), rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] })
  socket.on('error', () => undefined)
  socket.end('GET / HTTP/1.1\r\n\r\n')

  good.say({ $case: 'heartbeat', value: { facts: 'not json' } })
  good.say({ $case: 'hello', value: { agentVersion: 'again', bootId: 'b', facts: '{}', running: [], instance: 'fake' } })
  good.result({ taskId: 't-none', actionId: 'x', attempt: 1 })
  await eventually(t, 'a result that nobody knows is acknowledged', () => good.resultAcks.some((key) => key.taskId === 't-none'))
  t.notOk(good.isEnded)
})

t.test('the server shows its chain with the authority in it, so that a joining node can find it', async (t) => {
  const system = await startSystem(t)
  const chain = await new Promise<string[]>((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: Number(system.gateway().split(':')[1]), rejectUnauthorized: false, ALPNProtocols: ['h2'], servername: 'gateway.lichen.internal' })
    socket.once('error', reject)
    socket.once('secureConnect', () => {
      const leaf = socket.getPeerCertificate(true)
      resolve([leaf.fingerprint256, leaf.issuerCertificate.fingerprint256])
      socket.destroy()
    })
  })
  t.equal(chain[1]?.replaceAll(':', '').toLowerCase(), system.authority.caDigest)
})

t.test('a gateway that stops ends the connections that have not shaken hands yet', async (t) => {
  const system = await startSystem(t)
  const [host, port] = system.gateway().split(':')
  const socket = connectPlainly({ host, port: Number(port) }).on('error', () => undefined).resume()
  t.teardown(() => void socket.destroy())
  // The half of a ClientHello: the gateway waits for the rest.
  socket.write(Buffer.from([22, 3, 1, 2, 0, 1, 0]))
  await eventually(t, 'it is let through', () => socket.bytesWritten > 0 && !socket.connecting)
  await new Promise((resolve) => setTimeout(resolve, 200))
  t.notOk(socket.closed)
  await system.stopEngine()
  await eventually(t, 'it is closed', () => socket.closed)
})
