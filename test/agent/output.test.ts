import t, { type Test } from 'tap'
import { clockOf } from '@lichen/core'
import { eventually } from '../eventually.js'
import { incompleteBytes, LineStream } from '../../packages/agent/dist/output/line-stream.js'
import { Masker } from '../../packages/agent/dist/output/masker.js'

/** What comes out of a line stream for these pieces, without waiting between them. */
function pass(pieces: readonly (string | Buffer)[], secrets: readonly string[] = []): string[] {
  const out: Buffer[] = []
  const stream = new LineStream(clockOf(globalThis), new Masker(secrets), (lines) => out.push(lines))
  for (const piece of pieces) stream.push(Buffer.from(piece as string))
  stream.end()
  const text = Buffer.concat(out).toString('utf8')
  return text === '' ? [] : text.slice(0, -1).split('\n')
}

t.test('lines come out whole, however they were cut', async (t) => {
  const text = 'eins\nzwölf €\n\n😀 ende'
  const bytes = Buffer.from(text)
  for (let first = 0; first <= bytes.length; first++) {
    for (const second of [first, Math.min(bytes.length, first + 1), Math.min(bytes.length, first + 2)]) {
      t.same(pass([bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)]), text.split('\n'), `${first} ${second}`)
    }
  }
})

t.test('bytes that are not UTF-8 become U+FFFD, and the lines around them stand', async (t) => {
  t.same(pass([Buffer.from([0x61, 0xff, 0xfe, 0x62, 0x0a]), 'good ü\n', Buffer.from([0xc3])]), ['a\ufffd\ufffdb', 'good ü', '\ufffd'])
  t.same(pass([Buffer.from([0x00, 0x01, 0x0a])]), ['\u0000\u0001'])
  t.same([0, 1, 2, 3].map((cut) => incompleteBytes(Buffer.from('€😀').subarray(0, 3 + cut))), [0, 1, 2, 3])
})

t.test('a secret is masked wherever reads cut it', async (t) => {
  const secret = 'p4ssw0rd-äöü'
  const bytes = Buffer.from(`user=x password=${secret} end\n${secret}${secret}\nlast ${secret}`)
  for (let cut = 0; cut <= bytes.length; cut++) {
    t.same(pass([bytes.subarray(0, cut), bytes.subarray(cut)], [secret]), ['user=x password=*** end', '******', 'last ***'], String(cut))
  }
})

t.test('the forms in which tools write a secret are masked too', async (t) => {
  const secret = 'a"b c/d+e=fgh&'
  const forms = [secret, JSON.stringify(secret), encodeURIComponent(secret), encodeURIComponent(secret).replaceAll('%20', '+'), Buffer.from(secret).toString('hex')]
  for (const form of forms) t.notMatch(pass([`>${form}<`], [secret])[0], /fgh/, form)
  for (const user of ['', 'u', 'us', 'use', 'user']) {
    const whole = Buffer.from(`${user}:${secret}:x`).toString('base64')
    const masked = pass([`Authorization: Basic ${whole}`], [secret])[0]!
    const left = masked.replace('Authorization: Basic ', '').replace('***', '')
    t.match(masked, /\*\*\*/)
    t.ok(left.length <= 8 + Math.ceil(((user.length + 3) * 8) / 6), `${whole} → ${masked}`)
    t.notMatch(pass([Buffer.from(`${user}:${secret}:x`).toString('base64url')], [secret])[0], Buffer.from(secret).toString('base64url').slice(4, 14))
  }
})

t.test('of secrets that begin at one place the longest is masked; secrets of several lines are masked line by line', async (t) => {
  t.same(pass(['abcdefgh abcdef abcd\n'], ['abcd', 'abcdefgh', 'abcdef']), ['*** *** ***'])
  const key = '-----BEGIN KEY-----\nMIIBVgIBADANBgkq\nhkiG9w0BAQ\n}\n-----END KEY-----\n'
  t.same(pass([`cat key\n${key}`], [key]), ['cat key', '***', '***', '***', '}', '***'])
  t.same(pass([JSON.stringify({ key })], [key]), ['{"key":"***"}'])
  t.same(pass(['abc\n'], ['abc', 'x', '']), ['abc'], 'values below four bytes are no secrets')
})

t.test('many secrets in much text are all found', async (t) => {
  const secrets = Array.from({ length: 60 }, (_, index) => `secret-${index}-${(index * 7919).toString(36)}`)
  const masker = new Masker(secrets)
  const text = secrets.map((secret, index) => `${'lorem ipsum '.repeat(index % 9)}${secret}`).join('\n')
  const masked = masker.maskText(text)
  t.equal(masked, secrets.map((_, index) => `${'lorem ipsum '.repeat(index % 9)}***`).join('\n'))
  const clean = Buffer.from('nothing of the kind here\n'.repeat(100))
  t.equal(masker.maskBytes(clean), clean, 'the same buffer comes back')
})

async function open(t: Test, piece: string, secrets: string[] = []): Promise<{ out: string[]; stream: LineStream }> {
  const out: string[] = []
  const stream = new LineStream(clockOf(globalThis), new Masker(secrets), (lines) => out.push(lines.toString()))
  t.teardown(() => stream.end())
  stream.push(Buffer.from(piece))
  return { out, stream }
}

t.test('a line that stays open is let out in pieces that say so', async (t) => {
  const { out, stream } = await open(t, 'Password: ')
  t.same(out, [])
  await eventually(t, 'the piece', () => out.length === 1)
  stream.push(Buffer.from('given\nnext\n'))
  t.same(out, ['Password:  ⋯\n', '⋯ given\nnext\n'])
})

t.test('an open line is never cut inside a secret or a character', async (t) => {
  const secret = 'abcabcXYZ'
  for (let size = 1; size < secret.length; size++) {
    const { out, stream } = await open(t, `pw=${secret.slice(0, size)}`, [secret])
    await eventually(t, 'the piece', () => out.length === 1)
    t.equal(out[0], 'pw= ⋯\n', secret.slice(0, size))
    stream.push(Buffer.from(`${secret.slice(size)}\n`))
    t.equal(out[1], '⋯ ***\n')
  }
  const { out, stream } = await open(t, 'xabcabc', ['abcabc'])
  await eventually(t, 'the piece', () => out.length === 1)
  stream.push(Buffer.from('z\n'))
  t.same(out, ['x ⋯\n', '⋯ ***z\n'], 'one that might be longer is held back whole')
  const { out: characters, stream: cut } = await open(t, 'a')
  cut.push(Buffer.from([0xe2, 0x82]))
  await eventually(t, 'the piece', () => characters.length === 1)
  cut.push(Buffer.from([0xac, 0x0a]))
  t.same(characters, ['a ⋯\n', '⋯ €\n'])
})

t.test('a line of megabytes comes in pieces of 64 KiB with no secret in them', async (t) => {
  const secret = 'very-secret-value'
  const line = `${'x'.repeat(65_530)}${secret}${'y'.repeat(200_000)}€`
  for (const pieces of [[`${line}\nnext\n`], [line.slice(0, 65_535), line.slice(65_535), '\nnext\n']]) {
    const lines = pass(pieces, [secret])
    t.equal(lines.at(-1), 'next')
    t.ok(lines.length >= 5)
    const whole = lines.slice(0, -1).map((piece, index, all) => (index === 0 ? '' : piece.slice(0, 2) === '⋯ ' ? '' : '?') + piece.slice(index === 0 ? 0 : 2, index === all.length - 1 ? undefined : -2)).join('')
    t.equal(whole, line.replace(secret, '***'))
    for (const piece of lines) t.ok(Buffer.byteLength(piece) <= 64 * 1024 + 16)
  }
})
