/** The simulator as `npm run simulate` runs it, one process, and what of its time is not the simulator's. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import type { Profiler } from 'node:inspector'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

const root = resolve(import.meta.dirname, '..')
const program = resolve(root, '.test-build/simulator/main.mjs')

async function run(flags: readonly string[], runs: number): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, 'scripts/simulate.mjs', '--seed', '1', '--runs', String(runs), '--jobs', '1'], { cwd: root })
  return stdout
}

/** Task-runs per second of real and of processor time, over so many seeds. @throws when a seed breaks an invariant */
export async function measureSimulator(runs: number): Promise<{ readonly perSecond: number; readonly perCpuSecond: number }> {
  const stdout = await run([], runs)
  const [, perSecond, perCpuSecond] = /: (\d+) task runs a second, (\d+) task runs a second of one core/.exec(stdout) ?? []
  if (perSecond === undefined) throw new Error(`the simulator said: ${stdout}`)
  return { perSecond: Number(perSecond), perCpuSecond: Number(perCpuSecond) }
}

/**
 * How much of the simulator's processor time is spent in Lichen's own packages, which it is there to run, and in what they call: no simulator could do without. From the profiler of V8; the time of the
 * garbage collector is shared out as the rest is.
 */
export async function measureOwnShare(runs: number): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-profile-'))
  try {
    await run(['--cpu-prof', '--cpu-prof-dir', directory], runs)
    const profiles = readdirSync(directory).map((name) => JSON.parse(readFileSync(join(directory, name), 'utf8')) as Profiler.Profile)
    const profile = profiles.find(({ nodes }) => nodes.some(({ callFrame }) => callFrame.url.endsWith(program)))
    if (profile === undefined) throw new Error(`no profile of ${program} among ${profiles.length}`)
    return shareOf(profile, listModules())
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Where each line of the bundle comes from: esbuild says so in a comment before the first one of each file. */
function listModules(): readonly string[] {
  let module = ''
  return readFileSync(program, 'utf8').split('\n').map((line) => (module = /^ *\/\/ ((?:packages|simulation|node_modules)\/\S+)$/.exec(line)?.[1] ?? module))
}

function shareOf({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile, modules: readonly string[]): number {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const callers = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)))
  /** Libraries and Node.js work for whoever calls them. */
  function ownerOf(sample: number): 'packages' | 'simulation' | 'nobody' {
    for (let id: number | undefined = sample; id !== undefined; id = callers.get(id)) {
      const { callFrame } = byId.get(id)!
      if (callFrame.functionName === '(garbage collector)' || callFrame.functionName === '(idle)') return 'nobody'
      const module = callFrame.url.endsWith(program) ? modules[callFrame.lineNumber] : undefined
      if (module?.startsWith('packages/')) return 'packages'
      if (module?.startsWith('simulation/')) return 'simulation'
    }
    return 'simulation'
  }
  const spent = { packages: 0, simulation: 0, nobody: 0 }
  samples.forEach((sample, index) => (spent[ownerOf(sample)] += timeDeltas[index] ?? 0))
  return spent.packages / (spent.packages + spent.simulation)
}
