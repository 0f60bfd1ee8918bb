/** The real program, killed right after each of its durable writes in turn. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type DurableWrite, durableWrites } from '@lichen/agent'
import { eventually } from '../eventually.js'
import { makeDirectory, startGateway } from './agent.js'
import { spawnProgram, startProgram } from './agent-program.js'
import { makeCommand } from './gateway.js'
import { listRuns } from './runs.js'

/** Before an attempt, or only now and then: not on the way of every order. */
const elsewhere: readonly DurableWrite[] = ['identity.write', 'journal.compaction', 'journal.epoch']

t.test('an agent that dies right after a durable write loses nothing and does nothing twice, whichever write it is', { timeout: 400_000 }, async (t) => {
  for (const name of durableWrites.filter((known) => !elsewhere.includes(known))) {
    const gateway = await startGateway(t)
    const directory = makeDirectory(t)
    const at = (file: string): string => join(directory, file)
    const child = await startProgram(t, gateway, directory, { env: { LICHEN_TEST_CRASH_AT: `${name}:after` } })
    const gone = new Promise<string | null>((resolve) => child.once('exit', (_code, signal) => resolve(signal)))
    const run = (file: string, spec: object) => makeCommand('run', { shell: `echo ${file} >> ${at(file)}; echo "from ${file}"`, ...spec })
    const key = gateway.order({ commands: [run('first', { uncheckable: true }), run('second', { creates: at('second') }), run('third', { uncheckable: true })] })
    t.equal(await gone, 'SIGKILL', `${name}: it died`)
    await startProgram(t, gateway, directory)
    const { result } = await eventually(t, `${name}: the result`, () => {
      // What was lost before it was durable is the engine's to send again.
      if (gateway.hellos.at(-1)!.running.length === 0 && gateway.results.length === 0 && name === 'journal.intent') return undefined
      return gateway.resultOf(key)
    })
    const ran = ['first', 'second', 'third'].map((file) => (existsSync(at(file)) ? readFileSync(at(file), 'utf8').split('\n').length - 1 : 0))
    t.match(result, { outcome: 'succeeded' }, name)
    t.same(ran, [1, 1, 1], `${name}: each once`)
    await eventually(t, `${name}: nothing is left`, () => listRuns(directory).length === 0 && readdirSync(at('data/runs')).length === 0)
    const lines = gateway.logOf(key).split('\n').filter((line) => line.startsWith('from '))
    t.same(lines, ['from first', 'from second', 'from third'], `${name}: each line once`)
    gateway.stop()
  }
})

t.test('a name that is none is refused', async (t) => {
  const gateway = await startGateway(t)
  const child = await spawnProgram(t, gateway, makeDirectory(t), { env: { LICHEN_TEST_CRASH_AT: 'journal.nothing:after' } })
  t.equal(await new Promise((resolve) => child.once('exit', resolve)), 78)
})
