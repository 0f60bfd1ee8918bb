/** The agent's .deb, built by the same program that `npm run package:agent` runs. */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runProgram } from './child-program.js'
import { DemoFailure } from './failure.js'

export interface AgentPackage {
  readonly path: string
  /** SHA-256 of what it is made of, lower-case hex: the same as long as neither the agent nor its Node.js changes. */
  readonly digest: string
}

/** The package, built when it is missing or older than what it is made of. @throws DemoFailure with the output of the build. */
export async function buildAgentPackage(checkout: string, signal?: AbortSignal): Promise<AgentPackage> {
  const { exitCode, output } = await runProgram([process.execPath, join(checkout, 'packages/agent/packaging/build-deb.mjs')], { cwd: checkout, ...(signal ? { signal } : {}) })
  if (exitCode !== 0) throw new DemoFailure('the agent package could not be built', output)
  const path = output.split('\n').map((line) => line.trim()).findLast((line) => line.endsWith('.deb') && existsSync(line))
  if (path === undefined) throw new DemoFailure('the agent package was built, but its path was not printed', output)
  return { path, digest: createHash('sha256').update(readFileSync(path)).digest('hex') }
}
