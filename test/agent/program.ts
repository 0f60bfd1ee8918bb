/** The agent program as users have it: the bundle of the package. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { bundleAgent, packageRoot } from '../../packages/agent/packaging/bundle.mjs'

/** Path of a fresh bundle of the built agent; it goes away with this process. */
export async function bundleProgram(): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-agent-bundle-'))
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
  await bundleAgent({ entry: join(packageRoot, 'dist/main.js'), directory, root: resolve(packageRoot, '../..') })
  return join(directory, 'main.mjs')
}
