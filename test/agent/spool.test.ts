/** The spool against a model of it: chunks are appended, released and read back after deaths of the agent, in any order. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LogStream } from '@lichen/protocol'
import { nodeDisk } from '../../packages/agent/dist/disk/node-disk.js'
import { Spool } from '../../packages/agent/dist/output/spool.js'
import { makeDirectory, quiet } from './agent.js'

type Chunk = { readonly position: number; readonly text: string; place: Parameters<Spool['read']>[0] }

/** Numbers from 0 to 1, the same for the same seed (Lehmer, MINSTD). */
const openRandom = (seed: number) => () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647

/** Segments of half a mebibyte. */
const limitBytes = 2 * 1024 * 1024
const key = { taskId: 't-1', actionId: 'a', attempt: 1 }

for (let seed = 1; seed <= 12; seed++) {
  t.test(`every chunk that was not released is there after each restart, in order and whole; space is used again (seed ${seed})`, async (t) => {
    const random = openRandom(seed * 7919)
    const directory = makeDirectory(t)
    let position = 0
    let waiting: Chunk[] = []
    const released = new Map<number, string>()
    const reopen = (): Spool => {
      const found: Chunk[] = []
      const spool = Spool.open({ directory, disk: nodeDisk, log: quiet, limitBytes }, (head, place) => found.push({ position: head.position, text: '', place }))
      const wanted = new Map(waiting.map((chunk) => [chunk.position, chunk.text]))
      t.same(found.filter((chunk) => wanted.has(chunk.position)).map((chunk) => chunk.position), [...wanted.keys()], 'what waits, in order')
      t.ok(found.every((chunk, index) => index === 0 || chunk.position > found[index - 1]!.position), 'everything that is read is in order')
      for (const chunk of found) {
        const text = spool.read(chunk.place).toString()
        if (text !== (wanted.get(chunk.position) ?? released.get(chunk.position))) t.fail(`the chunk at ${chunk.position} has other bytes`)
      }
      waiting = found.filter((chunk) => wanted.has(chunk.position)).map((chunk) => ({ ...chunk, text: wanted.get(chunk.position)! }))
      for (const chunk of found) if (!wanted.has(chunk.position)) spool.release(chunk.place)
      return spool
    }
    let spool = reopen()
    for (let step = 0; step < 400; step++) {
      const what = random()
      if (what < 0.55) {
        const text = `${position} ${'x'.repeat(Math.floor(random() * 60_000))}`
        const place = spool.append({ key, position, command: 0, stream: LogStream.STDOUT, at: step }, [Buffer.from(text)], text.length)
        t.ok(place)
        waiting.push({ position, text, place: place! })
        position += text.length
      } else if (what < 0.92) {
        // In order, as they are acknowledged; mostly a few, at times all.
        for (const chunk of waiting.splice(0, random() < 0.2 ? waiting.length : Math.floor(random() * 6))) {
          released.set(chunk.position, chunk.text)
          spool.release(chunk.place)
        }
      } else if (what < 0.96) await spool.sync()
      else {
        // As when the agent is killed, or stopped.
        if (random() < 0.5) spool.close()
        spool = reopen()
      }
    }
    await spool.sync()
    for (const chunk of waiting.splice(0)) spool.release(chunk.place)
    const sizes = readdirSync(directory).map((name) => statSync(join(directory, name)).size)
    t.same(sizes, [512 * 1024, 512 * 1024], `${position} bytes went through`)
    spool.close()
  })
}

t.test('what was released before a restart does not come back behind a chunk of the same size that takes its place', async (t) => {
  const directory = makeDirectory(t)
  const open = (found: number[]): Spool => Spool.open({ directory, disk: nodeDisk, log: quiet, limitBytes }, ({ position }) => found.push(position))
  const text = 'x'.repeat(40_000)
  const append = (spool: Spool, position: number) => spool.append({ key, position, command: 0, stream: LogStream.STDOUT, at: 0 }, [Buffer.from(text)], text.length)!
  let spool = open([])
  for (const position of [100_000, 220_000]) {
    const places = [0, 1, 2].map((index) => append(spool, position + index * text.length))
    await spool.sync()
    for (const place of places) spool.release(place)
  }
  const names = readdirSync(directory)
  spool.close()
  spool = open([])
  t.same(readdirSync(directory), names, 'both segments are used again')
  append(spool, 340_000)
  spool.close()
  const found: number[] = []
  spool = open(found)
  t.same(found, [340_000])
  spool.close()
})
