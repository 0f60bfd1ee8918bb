import t from 'tap'
import { runSeed } from '../../simulation/run.js'
import { type Protection, type Sabotage, sabotages } from '../../simulation/sabotage.js'

// The simulator is worth something only if it fails when something is wrong: so each protection is turned off in turn.
const mostSeeds = 250

/** The first of the seeds in which one of the protection's invariants breaks, and what others broke before. */
async function findBroken(name: Sabotage, protection: Protection): Promise<{ readonly seed: number | undefined; readonly message: string }> {
  for (let seed = 1; seed <= mostSeeds; seed++) {
    const { broken } = await runSeed({ seed, sabotage: name, faults: protection.faults })
    if (broken !== undefined && protection.breaks.includes(broken.invariant)) return { seed, message: broken.message }
  }
  return { seed: undefined, message: 'none' }
}

for (const [name, protection] of Object.entries(sabotages) as [Sabotage, Protection][]) {
  t.test(`without ${name} an invariant of ${protection.breaks.join(', ')} breaks within ${mostSeeds} seeds`, { timeout: 180_000 }, async (t) => {
    const { seed, message } = await findBroken(name, protection)
    t.comment(`seed ${seed}: ${message}`)
    t.not(seed, undefined)
    if (seed === undefined) return
    const { broken } = await runSeed({ seed, faults: protection.faults })
    t.equal(broken, undefined, `the same seed with ${name} breaks none`)
  })
}
