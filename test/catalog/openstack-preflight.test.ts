/** The look at a node before a service of OpenStack is put there: the script itself, on this machine. */
import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net'
import { resolve } from 'node:path'
import t, { type Test } from 'tap'

const script = resolve(import.meta.dirname, '../../catalog/shared/openstack/preflight.sh')

async function look(...wanted: string[]): Promise<{ code: number; problems: string[] }> {
  const child = spawn('/bin/bash', [script, ...wanted], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
  const code = await new Promise<number>((done) => child.on('close', (exit) => done(exit ?? -1)))
  return { code, problems: said.split('\n').filter((line) => line !== '' && line !== 'the agent is not root') }
}

async function listen(t: Test, server: Server, host: string): Promise<number> {
  await new Promise<void>((done) => server.listen(0, host, done))
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** An identity service whose clock is so many seconds ahead. */
async function serveClock(t: Test, aheadS: number): Promise<string> {
  const server = createServer((_, response) => response.writeHead(300, { date: new Date(Date.now() + aheadS * 1000).toUTCString() }).end())
  return `http://127.0.0.1:${await listen(t, server, '127.0.0.1')}/v3`
}

t.test('all that is wrong with a node is told at once', async (t) => {
  const { code, problems } = await look('memory=100000000', 'disk=100000000000', 'interface=lichen-none0', 'filesystem=lichenfs', 'device=/dev/lichen-none:lichen_none')
  t.equal(code, 1)
  t.match(problems, [
    /^the node has \d+ MiB of memory, and 100000000 are needed$/,
    /^there are \d+ MiB free under \/var\/lib, and 100000000000 are needed$/,
    /^the node has no interface lichen-none0 \(found: .*lo.*\)$/,
    'the kernel of the node does not know the file system lichenfs',
    'the node has no /dev/lichen-none: its kernel lacks lichen_none',
  ])
  t.match(await look('memory=1', 'disk=1', 'interface=lo', 'filesystem=proc', 'device=/dev/null:null'), { problems: [] })
})

t.test('a port is taken where it is listened on: on all addresses, or on the one that is asked about', async (t) => {
  const one = await listen(t, createTcpServer(), '127.0.0.1')
  const all = await listen(t, createTcpServer(), '0.0.0.0')
  const taken = (port: number) => [`TCP port ${port}, which lichen-none.service is to listen on, is taken by another program`]
  t.match(await look(`port=${one}:lichen-none.service`), { code: 1, problems: taken(one) })
  t.match(await look(`port=${one}:lichen-none.service:127.0.0.1`), { problems: taken(one) })
  t.match(await look(`port=${one}:lichen-none.service:127.0.0.2`), { problems: [] }, 'as a virtual address has it, of a node whose own one is free')
  t.match(await look(`port=${all}:lichen-none.service:127.0.0.2`), { problems: taken(all) })
})

t.test('a clock that differs from that of the identity service is told, with how much and which way', async (t) => {
  const [right, ahead, behind] = [await serveClock(t, 2), await serveClock(t, -3600), await serveClock(t, 3600)]
  t.same((await look(`identity=${right}`)).problems, [])
  t.match((await look(`identity=${ahead}`)).problems, [/^the clock of the node is (3599|360[0-2]) s ahead of that of http:\/\/127\.0\.0\.1:\d+\/v3: tokens would not be valid; let it be set/])
  t.match((await look(`identity=${behind}`)).problems, [/^the clock of the node is (359\d|3600) s behind that of /])
  t.same((await look('identity=http://127.0.0.1:9/v3')).problems, [], 'one that does not answer yet says nothing')
})
