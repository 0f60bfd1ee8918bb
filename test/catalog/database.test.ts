/** What keeps the schema of a service's databases: the script itself, and a server of the test that does not let it in. (What it does with one that does is in keystone.test.ts.) */
import { spawn, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'

const script = resolve(import.meta.dirname, '../../catalog/shared/openstack/database.py')

/** One that has the library which is on every node with such a service. */
const python = ['/usr/bin/python3', 'python3'].find((program) => spawnSync(program, ['-c', 'import pymysql']).status === 0)
const skip = python === undefined && process.env['CI'] !== 'true' ? 'no Python here has PyMySQL (node scripts/install-python-modules.mjs)' : false

/** A packet of MariaDB's protocol. */
const packet = (sequence: number, ...parts: (Buffer | string)[]): Buffer => {
  const payload = Buffer.concat(parts.map((part) => Buffer.from(part)))
  return Buffer.concat([Buffer.from([payload.length & 0xff, payload.length >> 8, 0, sequence]), payload])
}
const refusal = (sequence: number, code: number, state: string, message: string): Buffer => packet(sequence, Buffer.from([0xff, code & 0xff, code >> 8]), state, message)
/** Version 10 of the greeting: it speaks the protocol of 4.1, with passwords of that time, and lets a login name a database. */
const greeting = packet(0, Buffer.from([10]), '10.11.0-MariaDB\0', Buffer.from([1, 0, 0, 0]), '12345678\0', Buffer.from([0x08, 0x82, 45, 2, 0, 0x08, 0, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), '123456789012\0', 'mysql_native_password\0')

/** Says this to whoever connects, and what is said to his login. Gives back the port. */
async function startServer(t: Test, first: Buffer, toLogin?: Buffer): Promise<number> {
  const server = createServer((socket: Socket) => {
    socket.on('error', () => {})
    if (!toLogin) return void socket.end(first)
    socket.once('data', () => socket.end(toLogin))
    socket.write(first)
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** What it says of a database at this port, asked whether the schema is current and told to make it so. */
async function run(t: Test, port: number): Promise<{ code: unknown; said: string }[]> {
  const file = join(t.testdir(), 'database.json')
  writeFileSync(file, JSON.stringify({ package: 'dpkg', databases: [{ host: '127.0.0.1', port, database: 'keystone', user: 'keystone', password: 'never-told' }], user: 'nobody', commands: [['no-such-manage', 'db_sync']] }))
  const answers = []
  for (const args of [['is-current'], []]) {
    const child = spawn(python ?? 'python3', [script, file, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (said += text))
    answers.push({ code: await new Promise((done) => child.once('close', done)), said })
  }
  return answers
}

t.test('a database that refuses is told with its cause, in one line and without the password', { skip }, async (t) => {
  const denied = "Access denied for user 'keystone'@'192.0.2.1' (using password: YES)"
  const locked = 'Access denied, this account is locked'
  for (const [title, cause, greets, toLogin] of [
    ['it has no room for one more', 'Too many connections (1040)', refusal(0, 1040, '#08004', 'Too many connections')],
    ['it does not know the node', "Host '192.0.2.1' is not allowed to connect to this MariaDB server (1130)", refusal(0, 1130, '#HY000', "Host '192.0.2.1' is not allowed to connect to this MariaDB server")],
    ['the password is another one', `${denied} (1045)`, greeting, refusal(2, 1045, '#28000', denied)],
    ['the account is locked', `${locked} (4151)`, greeting, refusal(2, 4151, '#HY000', locked)],
    ['there is no such database', "Unknown database 'keystone' (1049)", greeting, refusal(2, 1049, '#42000', "Unknown database 'keystone'")],
  ] as const) {
    const port = await startServer(t, greets, toLogin)
    const answer = { code: 1, said: `the database keystone at 127.0.0.1:${port}: ${cause}\n` }
    t.same(await run(t, port), [answer, answer], title)
  }
})

t.test('a database that is not there is told by its address', { skip }, async (t) => {
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  await new Promise((done) => server.close(done))
  const answer = { code: 1, said: `the database keystone at 127.0.0.1:${port}: Can't connect to MySQL server on '127.0.0.1' ([Errno 111] Connection refused) (2003)\n` }
  t.same(await run(t, port), [answer, answer])
})
