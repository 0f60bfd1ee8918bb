import t from 'tap'
import { parse } from 'yaml'
import { nodeId, parseJoinToken } from '@lichen/core'
import { createHash } from 'node:crypto'
import { admitNodes, caDigest, startTestApi } from './api-fixture.js'
import { checkProblem } from './problem.js'

const ids = (answer: { json(): unknown }) => (answer.json() as { items: { id: string }[] }).items.map(({ id }) => id)

t.test('nodes are listed by name, page by page, and filtered by state and labels', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-3', 'node-1'], { zone: 'a', role: 'data' })
  await admitNodes(app.store, ['node-2'], { zone: 'b' })
  await app.store.nodes.updateNodes([{ node: nodeId('node-3'), state: 'lost', seenAt: 1 }])
  const first = await app.call('GET', '/v1/nodes?limit=2')
  t.same(ids(first), ['node-1', 'node-2'])
  t.equal(first.headers.link, '</v1/nodes?limit=2&after=node-2>; rel="next"')
  t.same(ids(await app.call('GET', '/v1/nodes?limit=2&after=node-2')), ['node-3'])
  t.same(ids(await app.call('GET', '/v1/nodes?state=lost')), ['node-3'])
  t.same(ids(await app.call('GET', '/v1/nodes?label=zone%3Da')), ['node-1', 'node-3'])
  t.same(ids(await app.call('GET', '/v1/nodes?label=zone%3Da,role%3Dweb')), [])
  checkProblem(t, await app.call('GET', '/v1/nodes?label=zone'), 'REQUEST_SHAPE')
  t.match((await app.call('GET', '/v1/nodes/node-1')).json(), { id: 'node-1', state: 'ready', cordoned: false, labels: { zone: 'a' }, facts: { hostname: 'node-1', os: { id: 'debian' }, memoryBytes: 4e9 }, agentVersion: '0.1.0', joinedAt: Number })
  t.notMatch((await app.call('GET', '/v1/nodes/node-1')).body, /key-node-1/, 'the digest of its key is not shown')
  checkProblem(t, await app.call('GET', '/v1/nodes/node-9'), 'REQUEST_NOT_FOUND')
  checkProblem(t, await app.call('GET', '/v1/nodes/Node_9'), 'REQUEST_SHAPE')
})

t.test('labels are merged and a node is cordoned without touching the rest', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'], { zone: 'a', old: 'x' })
  const labelled = await app.call('PATCH', '/v1/nodes/node-1', { payload: { labels: { zone: 'b', old: null, new: '' } } })
  t.match(labelled.json(), { labels: { zone: 'b', new: '' }, cordoned: false })
  t.notOk('old' in labelled.json().labels)
  const cordoned = await app.call('PATCH', '/v1/nodes/node-1', { payload: { cordoned: true }, headers: { 'content-type': 'application/merge-patch+json' } })
  t.match(cordoned.json(), { labels: { zone: 'b' }, cordoned: true })
  checkProblem(t, await app.call('PATCH', '/v1/nodes/node-2', { payload: { cordoned: true } }), 'REQUEST_NOT_FOUND')
  checkProblem(t, await app.call('PATCH', '/v1/nodes/node-1', { payload: {} }), 'REQUEST_SHAPE')
  t.same(checkProblem(t, await app.call('PATCH', '/v1/nodes/node-1', { payload: { cordoned: 'yes', labels: { 'bad key': 'x', zone: 7 }, drained: true } }), 'REQUEST_SHAPE').map(({ path }) => path).sort(), ['cordoned', 'drained', 'labels.zone', 'labels["bad key"]'])
})

t.test('a node is removed once', async (t) => {
  const app = await startTestApi(t)
  await admitNodes(app.store, ['node-1'])
  t.equal((await app.call('DELETE', '/v1/nodes/node-1')).statusCode, 204)
  t.same(await app.store.nodes.listNodes(), [])
  checkProblem(t, await app.call('DELETE', '/v1/nodes/node-1'), 'REQUEST_NOT_FOUND')
})

t.test('a join token lets a node in, is shown once, and is listed without its secret', async (t) => {
  const app = await startTestApi(t)
  const before = Date.now()
  const answer = await app.call('POST', '/v1/join-tokens', { payload: { ttlS: 60, uses: 2, labels: { role: 'data' } } })
  t.equal(answer.statusCode, 201, answer.body)
  const made = answer.json()
  t.match(made, { usesLeft: 2, labels: { role: 'data' }, createdBy: 'admin', gateway: 'gateway.example:8471' })
  t.ok(made.expiresAt >= before + 60_000 && made.expiresAt <= Date.now() + 60_000)
  const token = parseJoinToken(made.token)
  t.equal(token.caDigest, caDigest)
  const admitted = await app.store.nodes.admitNode({ tokenId: token.id, secretDigest: createHash('sha256').update(token.secret).digest('hex'), node: nodeId('node-1'), labels: {}, keyDigest: 'k', agentVersion: '1', now: Date.now() })
  t.same(admitted.labels, { role: 'data' })
  const list = await app.call('GET', '/v1/join-tokens')
  t.match(list.json(), { items: [{ id: token.id, usesLeft: 1 }], next: null })
  t.notMatch(list.body, new RegExp(`${token.secret}|secret`))
  t.equal((await app.call('DELETE', `/v1/join-tokens/${token.id}`)).statusCode, 204)
  checkProblem(t, await app.call('DELETE', `/v1/join-tokens/${token.id}`), 'REQUEST_NOT_FOUND')
})

t.test('without a body a join token lives an hour for one node; null means any number', async (t) => {
  const app = await startTestApi(t)
  t.match((await app.call('POST', '/v1/join-tokens')).json(), { usesLeft: 1 })
  const made = (await app.call('POST', '/v1/join-tokens', { payload: { uses: null } })).json()
  t.equal(made.usesLeft, null)
  t.equal(made.expiresAt - made.createdAt, 3_600_000)
  t.same(checkProblem(t, await app.call('POST', '/v1/join-tokens', { payload: { ttlS: 0, uses: 'many', labels: [] } }), 'REQUEST_SHAPE').map(({ path }) => path), ['ttlS', 'uses', 'labels'])
})

t.test('the cloud-init text is YAML that writes the configuration of the agent', async (t) => {
  const app = await startTestApi(t)
  const made = (await app.call('POST', '/v1/join-tokens', { payload: { labels: { 'example.org/role': 'data: "x"' } } })).json()
  t.ok(made.cloudInit.startsWith('#cloud-config\n'))
  const document = parse(made.cloudInit) as { write_files: { path: string; permissions: string; content: string }[]; runcmd: string[][] }
  const [file] = document.write_files
  t.match(file, { path: '/etc/lichen/agent.yaml', permissions: '0600' })
  t.same(parse(file!.content), { gateway: 'gateway.example:8471', token: made.token, labels: { 'example.org/role': 'data: "x"' } })
  t.same(document.runcmd.at(-1), ['systemctl', 'restart', 'lichen-agent.service'])
  t.same(parse(made.agentConfig), { gateway: 'gateway.example:8471', token: made.token })
})
