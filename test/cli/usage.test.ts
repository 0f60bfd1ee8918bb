import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { runLichen } from './system.js'

t.test('no server is exit code 3, in one line and a hint', async (t) => {
  const free = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => free.once('listening', resolve))
  const { port } = free.address() as AddressInfo
  await new Promise((resolve) => free.close(resolve))
  const { code, stderr } = await runLichen(t, t.testdir({}), 'tasks', '--url', `http://127.0.0.1:${port}`)
  t.equal(code, 3)
  t.equal(stderr, `lichen: no answer from http://127.0.0.1:${port}: connection refused\n  is \`npm start\` running? Another server: --url or LICHEN_URL\n`)
})

t.test('usage errors are exit code 2, help and version are 0', async (t) => {
  const directory = t.testdir({})
  t.match(await runLichen(t, directory, 'aply', 'x'), { code: 2, stderr: /unknown command 'aply'[^]*apply/ })
  t.match(await runLichen(t, directory, 'apply'), { code: 2, stderr: /missing required argument 'file'/ })
  t.match(await runLichen(t, directory, 'apply', 'missing.yaml'), { code: 2, stderr: 'lichen: missing.yaml: no such file\n' })
  t.match(await runLichen(t, directory, 'tasks', '--url', 'nonsense'), { code: 2, stderr: /--url: "nonsense" is no URL/ })
  t.match(await runLichen(t, directory, 'agent'), { code: 2, stderr: /--local DIRECTORY and --config FILE/ })
  t.match(await runLichen(t, directory, 'version'), { code: 0, stdout: /^\d+\.\d+\.\d+\n$/ })
  for (const args of [[], ['--help'], ['apply', '--help'], ['tasks', 'show', '--help'], ['logs', '--help']]) t.match(await runLichen(t, directory, ...args), { code: 0, stdout: /Usage: lichen/ })
})
