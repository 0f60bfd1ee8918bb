import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { encodeJoinToken, LichenError, parseJoinToken } from '@lichen/core'
import { startAgent } from '@lichen/agent'
import { eventually } from '../eventually.js'
import { clock, makeDirectory, quiet, startGateway, startTestAgent } from './agent.js'
import { makeCommand } from './gateway.js'

const options = (directory: string, gateway: string, token: string) => ({ gateway, token, name: 'node-1', dataDirectory: directory, clock, log: quiet })

t.test('a node joins once, keeps its identity to itself, and consumes the token file', async (t) => {
  const gateway = await startGateway(t)
  const directory = makeDirectory(t)
  const tokenFile = join(directory, 'token')
  writeFileSync(tokenFile, `${gateway.token}\n`)
  const agent = await startTestAgent(t, gateway, { dataDirectory: directory, token: undefined, tokenFile })
  t.notOk(existsSync(tokenFile))
  t.equal(statSync(join(directory, 'identity.json')).mode & 0o777, 0o600)
  await agent.stop()
  await startTestAgent(t, gateway, { dataDirectory: directory, token: undefined })
  t.equal(gateway.joins.length, 1)
})

t.test('a gateway with another CA than the token names is told nothing', async (t) => {
  const [gateway, impostor] = await Promise.all([startGateway(t), startGateway(t)])
  await t.rejects(startAgent(options(makeDirectory(t), impostor.address, gateway.token)), { code: 'JOIN_CA_MISMATCH' })
  t.same(impostor.joins, [])
})

t.test('a wrong token is refused with the gateway’s reason', async (t) => {
  const gateway = await startGateway(t)
  const token = encodeJoinToken({ ...parseJoinToken(gateway.token), secret: 'another-secret-of-22-characters' })
  const directory = makeDirectory(t)
  await t.rejects(startAgent(options(directory, gateway.address, token)), { code: 'JOIN_TOKEN_INVALID', message: 'no such token' })
  t.notOk(existsSync(join(directory, 'identity.json')))
  await t.rejects(startAgent(options(makeDirectory(t), gateway.address, 'nonsense')), { code: 'JOIN_TOKEN_INVALID' })
})

t.test('a gateway that is not there yet is waited for, and a port that does not speak TLS is no gateway', async (t) => {
  const gateway = await startGateway(t)
  const { port } = gateway
  gateway.stop()
  const starting = startAgent(options(makeDirectory(t), `127.0.0.1:${port}`, gateway.token))
  const warnings: string[] = []
  const silent = createServer((socket) => socket.end('SSH-2.0-nothing\r\n'))
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  t.teardown(() => silent.close())
  const abort = new AbortController()
  const log = { ...quiet, warn: (_fields: object, message: string) => void (warnings.push(message), abort.abort()) }
  await t.rejects(startAgent({ ...options(makeDirectory(t), `127.0.0.1:${(silent.address() as { port: number }).port}`, gateway.token), log, signal: abort.signal }), { code: 'AGENT_UNREACHABLE' })
  t.match(warnings, [/joining did not work/])
  await gateway.listen(port)
  const agent = await starting
  t.equal(agent.nodeId, 'node-1')
  await agent.stop()
})

t.test('a certificate is renewed at two thirds of its life, with a new key, and the stream goes on under it', async (t) => {
  const gateway = await startGateway(t, { certificateLifeMs: 4000 })
  const agent = await startTestAgent(t, gateway)
  const read = () => JSON.parse(readFileSync(join(agent.directory, 'identity.json'), 'utf8')) as { keyPem: string; certificatePem: string }
  const before = read()
  await eventually(t, 'the renewal', () => gateway.renewals > 0)
  await eventually(t, 'a new stream', () => gateway.hellos.length > 1 && agent.state === 'connected')
  const after = read()
  t.not(after.keyPem, before.keyPem)
  t.ok(new X509Certificate(after.certificatePem).checkPrivateKey((await import('node:crypto')).createPrivateKey(after.keyPem)))
  const key = gateway.order({ nodeId: 'node-1', commands: [makeCommand('note', { text: 'x' })] })
  await eventually(t, 'the result', () => gateway.resultOf(key))
})

t.test('two agents never share a data directory', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  await t.rejects(startAgent(options(agent.directory, gateway.address, gateway.token)), { code: 'AGENT_DATA_IN_USE' })
  t.equal(agent.state, 'connected')
})

t.test('an address that is none is refused at once', async (t) => {
  for (const gateway of ['nowhere', 'host:', 'host:99999', 'a b:1', '']) await t.rejects(startAgent(options(makeDirectory(t), gateway, 'x')), LichenError, gateway)
})

t.test('a node whose answer was lost joins again with the same key', async (t) => {
  const gateway = await startGateway(t)
  gateway.losesJoins = 2
  const agent = await startTestAgent(t, gateway)
  t.equal(gateway.joinedKeys.length, 3)
  t.equal(new Set(gateway.joinedKeys).size, 1)
  t.notOk(existsSync(join(agent.directory, 'joining.json')))
})

t.test('a node whose certificate has expired says so', async (t) => {
  const gateway = await startGateway(t)
  const agent = await startTestAgent(t, gateway)
  await agent.stop()
  const errors: string[] = []
  const log = { ...quiet, error: (_fields: object, message: string) => void errors.push(message) } as typeof quiet
  const late = await startAgent({ ...options(agent.directory, gateway.address, gateway.token), clock: { ...clock, now: () => Date.now() + 7_200_000 }, log })
  t.match(errors, [/has expired/])
  await late.stop()
})

// A gateway of these tests that is shut down while a connection is still shaking hands keeps that socket (grpc-js knows sessions alone): it must not keep this process.
t.teardown(() => void setTimeout(() => process.exit(), 5_000).unref())
