import t from 'tap'
import { openRabbitBroker } from '@lichen/broker'

const refusals: readonly (readonly [string, string, RegExp])[] = [
  ['nothing', '', /is empty/],
  ['blanks', '  ', /is empty/],
  ['another protocol', 'http://user:secret@host', /does not begin with amqp:\/\/ or amqps:\/\//],
  ['no host', 'amqp://', /names no host/],
  ['no host but a virtual host', 'amqp:///vhost', /names no host/],
  ['a port that is none', 'amqp://user:secret@host:567200', /cannot be read/],
  ['port 0', 'amqp://user:secret@host:0', /port 0/],
  ['a "#" in the password', 'amqp://user:sec#ret@host', /percent-encoded/],
  ['a "/" in the password', 'amqp://user:1/secret@host', /percent-encoded/],
  ['a "?" in the password', 'amqp://user:sec?ret@host', /percent-encoded/],
  ['a "%" that encodes nothing', 'amqp://user:secret%zz@host', /%25/],
  ['a comma in the password', 'amqp://user:sec,ret@host', /characters , .* percent-encoded/],
  ['hosts of one URL', 'amqp://user:secret@a:5672,b:5672/vh', /broker URL 2 of 2 .*does not begin/],
  ['an empty entry', 'amqp://user:secret@a,,amqp://user:secret@b', /broker URL 2 of 3/],
  ['a comma at the end', 'amqp://user:secret@a,', /broker URL 2 of 2/],
  ['different virtual hosts', 'amqp://user:secret@a/one,amqp://user:secret@b/one,amqp://user:secret@c/two', /broker URL 3 of 3 names the virtual host "two", the first one "one"/],
  ['an unknown parameter', 'amqps://user:secret@host?cafile=x', /unknown parameter "cafile"; known are heartbeat, verify/],
  ['no heartbeat', 'amqp://user:secret@host?heartbeat=0', /heartbeat "0"/],
  ['a certificate that is not to be checked', 'amqps://user:secret@host?verify=verify_none', /always checked/],
  ['a certificate without its key', 'amqps://user:secret@host?certfile=/x', /only one of certfile and keyfile/],
  ['TLS parameters without TLS', 'amqp://user:secret@host?cacertfile=/x', /begins with amqp:\/\//],
  ['a file that is not there', 'amqp://user:secret@a,amqps://user:secret@host?cacertfile=/no/such/ca.pem', /broker URL 2 of 2 names the file \/no\/such\/ca.pem, which cannot be read \(ENOENT\)/],
  ['letters beyond ASCII', 'amqp://üser:secret@host', /percent-encoded/],
]

for (const [what, url, message] of refusals) {
  t.test(`a broker URL with ${what} is refused with its reason and without its password`, async (t) => {
    const error = await openRabbitBroker({ url }).then(async (broker) => (await broker.close(), undefined), (reason: Error) => reason)
    t.match(error, { code: 'BROKER_BAD_URL', message })
    t.notMatch(error?.message, /sec.?ret/)
  })
}

t.test('user, password and virtual host may be percent-encoded, the list may have blanks, and hosts may be addresses', async (t) => {
  const broker = await openRabbitBroker({ url: 'amqp://us%2Fer:p%C3%A4%2Css@127.0.0.1:1/a%2Fb , amqp://[::1]:1/a%2Fb?heartbeat=10' })
  t.equal(broker.isConnected(), false)
  await broker.close()
})
