import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import t from 'tap'
import { runSeed } from '../../simulation/run.js'

const root = resolve(import.meta.dirname, '../..')
const seeds = [3, 17, 58, 104]

t.test('the same seed gives the same transcript, byte for byte, whatever ran before it', async (t) => {
  for (const seed of seeds) {
    const first = await runSeed({ seed, keepsLines: true })
    await runSeed({ seed: seed + 1000 })
    const second = await runSeed({ seed, keepsLines: true })
    t.ok(first.lines.length > 100, `seed ${seed} has a transcript`)
    t.equal(second.lines.join(''), first.lines.join(''), `seed ${seed}`)
    t.equal(second.digest, first.digest)
  }
})

t.test('another seed gives another transcript', async (t) => {
  const digests: string[] = []
  for (const seed of [1, 2, 3]) digests.push((await runSeed({ seed })).digest)
  t.equal(new Set(digests).size, 3)
})

t.test('a fresh process of `npm run simulate` writes the same transcript', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-simulation-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const [seed] = seeds as [number]
  const here = await runSeed({ seed, keepsLines: true })
  const file = join(directory, 'transcript.txt')
  const child = spawnSync(process.execPath, ['scripts/simulate.mjs', '--seed', String(seed), '--runs', '1', '--transcript', file], { cwd: root, encoding: 'utf8' })
  t.equal(child.status, 0, child.stdout + child.stderr)
  t.equal(readFileSync(file, 'utf8'), here.lines.join(''))
})

t.test('nothing that runs in the simulator may look at the real clock', async (t) => {
  const before = { now: Date.now, random: Math.random, timeout: globalThis.setTimeout }
  await runSeed({ seed: 1 })
  t.same([Date.now, Math.random, globalThis.setTimeout], [before.now, before.random, before.timeout], 'and everything is as it was afterwards')
})
