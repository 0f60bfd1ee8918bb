/** A plain script (bench/plain-script.ts) carried out, to its end. */
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { directory } from './cluster-nodes.js'
import type { Ran } from './making.js'
import type { RunOptions } from './plan-run.js'

/** From its start to its end. Scripts that run on the same nodes one after the other have the same secrets. @throws when it ends with another code than 0 */
export async function runScript(text: string, { limitMs, log }: RunOptions): Promise<Ran> {
  const [work, secrets, script, times, output] = ['script-work', 'script-secrets', 'plain.sh', 'times', 'output'].map((name) => join(directory, name)) as [string, string, string, string, string]
  rmSync(work, { recursive: true, force: true })
  for (const each of [work, secrets]) mkdirSync(each, { recursive: true, mode: 0o700 })
  writeFileSync(script, text)
  writeFileSync(times, '')
  const printed = openSync(output, 'w')
  const beganAt = Date.now()
  const begun = performance.now()
  const child = spawn('bash', [script, work, times, secrets], { stdio: ['ignore', printed, printed], timeout: limitMs, detached: true })
  // Its jobs wait for each other in pipes: what is left of them when it has not come to its end goes with it, and with this process.
  const endJobs = (): void => {
    try {
      process.kill(-child.pid!, 'SIGKILL')
    } catch {
      // None is left.
    }
  }
  process.once('exit', endJobs)
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 128))
  })
  const wallS = (performance.now() - begun) / 1000
  endJobs()
  process.off('exit', endJobs)
  closeSync(printed)
  if (exitCode !== 0) {
    log(`the script has printed last:\n${readFileSync(output, 'utf8').slice(-2000)}`)
    throw new Error(`the script ended with ${exitCode}`)
  }
  const lines = readFileSync(times, 'utf8').trim().split('\n').map((line) => line.split(' ') as [string, string, string])
  return { wallS, spans: new Map(lines.map(([action, from, to]) => [action, { beganMs: Number(from) * 1000 - beganAt, endedMs: Number(to) * 1000 - beganAt }])) }
}
