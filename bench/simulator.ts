/** The simulator as `npm run simulate` runs it, one process. */
import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { promisify } from 'node:util'

const root = resolve(import.meta.dirname, '..')

/** Task-runs per second of real and of processor time, over so many seeds. @throws when a seed breaks an invariant */
export async function measureSimulator(runs: number): Promise<{ readonly perSecond: number; readonly perCpuSecond: number }> {
  const { stdout } = await promisify(execFile)(process.execPath, ['scripts/simulate.mjs', '--seed', '1', '--runs', String(runs), '--jobs', '1'], { cwd: root })
  const [, perSecond, perCpuSecond] = /: (\d+) task runs a second, (\d+) task runs a second of one core/.exec(stdout) ?? []
  if (perSecond === undefined) throw new Error(`the simulator said: ${stdout}`)
  return { perSecond: Number(perSecond), perCpuSecond: Number(perCpuSecond) }
}
