import { readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'
import { startServer } from '@lichen/server'
import { eventually } from '../eventually.js'
import { log, runLichen, startLichen } from './system.js'

const root = resolve(import.meta.dirname, '../..')

t.test('lichen agent --local joins the server by itself; examples/hello.yaml then runs on it, confined to its directory', async (t) => {
  const directory = t.testdir({})
  const server = await startServer({ dataDirectory: join(directory, '.lichen'), catalogDirectory: join(root, 'catalog'), host: '127.0.0.1', port: 0, gatewayHost: '127.0.0.1', gatewayPort: 0, version: '0.0.0-test', log })
  t.teardown(() => server.stop())
  const agent = startLichen(t, directory, ['agent', '--local', 'node', '--name', 'here', '--label', 'zone=a'])
  await eventually(t, 'the node is ready', async () => /here +ready.*zone=a/.test((await runLichen(t, directory, 'nodes')).stdout), { timeoutMs: 30_000 })
  t.equal(statSync(join(directory, 'node/agent.yaml')).mode & 0o777, 0o600, 'its configuration holds a token')

  const applied = await runLichen(t, directory, 'apply', join(root, 'examples/hello.yaml'))
  t.equal(applied.code, 0, `${applied.stdout}${applied.stderr}\n${agent.stderr()}`)
  t.match(readFileSync(join(directory, 'node/hello/greeting.txt'), 'utf8'), /here/)
  t.match(await runLichen(t, directory, 'apply', join(root, 'examples/hello.yaml')), { code: 0, stdout: /Nothing had to change/ })

  agent.child.kill('SIGTERM')
  t.equal((await agent.ended).code, 0, 'the agent ends politely with its terminal')
})
