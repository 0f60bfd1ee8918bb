import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { CliFailure, defaultUrl, readSettings } from '@lichen/cli'

const noFlags = { url: undefined, token: undefined }

function makeCheckout(directory: string, apiUrl?: string): string {
  mkdirSync(join(directory, '.lichen'), { recursive: true })
  mkdirSync(join(directory, 'deep/er'), { recursive: true })
  writeFileSync(join(directory, '.lichen/admin.token'), 'lichen_local\n')
  if (apiUrl !== undefined) writeFileSync(join(directory, '.lichen/server.json'), JSON.stringify({ pid: 1, apiUrl, gatewayAddress: 'x:1' }))
  return join(directory, 'deep/er')
}

t.test('without anything the server of npm start is meant, without a token', async (t) => {
  t.match(readSettings({ flags: noFlags, env: {}, directory: t.testdir({}) }), { url: defaultUrl, token: undefined, urlFrom: 'default' })
})

t.test('a data directory is found upwards and gives the URL of its server and its token', async (t) => {
  const directory = makeCheckout(t.testdir({}), 'http://127.0.0.1:9999')
  t.match(readSettings({ flags: noFlags, env: {}, directory }), { url: 'http://127.0.0.1:9999', token: 'lichen_local' })
})

t.test('flags win over the environment, and the environment over the data directory', async (t) => {
  const directory = makeCheckout(t.testdir({}), 'http://127.0.0.1:9999')
  const env = { LICHEN_URL: 'http://env:1', LICHEN_TOKEN: 'env' }
  t.match(readSettings({ flags: noFlags, env, directory }), { url: 'http://env:1', token: 'env' })
  t.match(readSettings({ flags: { url: 'https://flag:2/', token: 'flag' }, env, directory }), { url: 'https://flag:2', token: 'flag' })
})

t.test('the local token is never sent to another machine', async (t) => {
  const directory = makeCheckout(t.testdir({}))
  t.equal(readSettings({ flags: { url: 'http://elsewhere:8470', token: undefined }, env: {}, directory }).token, undefined)
  t.equal(readSettings({ flags: { url: 'http://127.0.0.1.elsewhere:8470', token: undefined }, env: {}, directory }).token, undefined)
  t.equal(readSettings({ flags: { url: 'http://localhost:1234', token: undefined }, env: {}, directory }).token, 'lichen_local')
})

t.test('what is no URL is a usage error that names where it came from', async (t) => {
  for (const url of ['nonsense', 'ftp://x', '127.0.0.1:8470']) {
    t.throws(() => readSettings({ flags: noFlags, env: { LICHEN_URL: url }, directory: t.testdir({}) }), { name: CliFailure.name, exitCode: 2, message: /^LICHEN_URL: / })
  }
})
