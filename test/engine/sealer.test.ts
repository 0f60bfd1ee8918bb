import { openSealer } from '@lichen/engine'
import t from 'tap'

const key = Buffer.alloc(32, 1)

t.test('what is sealed opens with the same key and context, and looks different each time', async (t) => {
  const sealer = openSealer(key)
  const first = sealer.seal(Buffer.from('a secret'), 'scope\nname')
  const second = sealer.seal(Buffer.from('a secret'), 'scope\nname')
  t.notSame(first, second)
  t.notOk(Buffer.from(first).includes('a secret'))
  t.equal(openSealer(key).open(first, 'scope\nname').toString(), 'a secret')
  t.equal(sealer.open(sealer.seal(Buffer.alloc(0))).length, 0)
})

t.test('another key, another context, another byte or a cut end do not open', async (t) => {
  const sealer = openSealer(key)
  const sealed = sealer.seal(Buffer.from('a secret'), 'here')
  t.throws(() => openSealer(Buffer.alloc(32, 2)).open(sealed, 'here'), { code: 'SERVER_MASTER_KEY' })
  t.throws(() => sealer.open(sealed, 'there'), { code: 'SERVER_MASTER_KEY' })
  for (let at = 0; at < sealed.length; at++) {
    const changed = Buffer.from(sealed)
    changed[at] = (changed[at] ?? 0) ^ 1
    t.throws(() => sealer.open(changed, 'here'), { code: 'SERVER_MASTER_KEY' }, `byte ${at}`)
  }
  for (const length of [0, 1, 28, sealed.length - 1]) t.throws(() => sealer.open(sealed.subarray(0, length), 'here'), { code: 'SERVER_MASTER_KEY' })
})

t.test('a master key has 32 bytes', async (t) => {
  t.throws(() => openSealer(Buffer.alloc(31)), { code: 'SERVER_MASTER_KEY' })
})
