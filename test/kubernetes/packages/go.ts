/**
 * Go of Debian, unpacked and not installed. Its cache lies beside the packages and outlives them: Go keys it by content and shares it between processes, so another
 * recipe compiles only what it changed.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { dieWithParent, runRequired } from '@lichen/lab'
import type { DebianArchive } from './debian-archive.js'
import { recipe } from './recipe.js'

export interface Go {
  /** Runs a program with Go's environment in a directory of `path`, e.g. `['go', 'build', …]`; the machine's other work comes first. */
  run(argv: readonly string[], cwd: string): Promise<string>
  /** The GOPATH: sources are under `src/`. */
  readonly path: string
}

export interface GoOptions {
  readonly archive: DebianArchive
  /** Thrown away with the build. */
  readonly directory: string
  /** Kept. */
  readonly cacheDirectory: string
}

/** The compiler, with an empty GOPATH. */
export async function openGo(options: GoOptions): Promise<Go> {
  const unpacked = join(options.directory, 'debian')
  await options.archive.unpack([`golang-${recipe.goVersion}-go`, `golang-${recipe.goVersion}-src`], unpacked)
  const goRoot = join(unpacked, `usr/lib/go-${recipe.goVersion}`)
  const path = join(options.directory, 'path')
  const temporary = join(options.directory, 'temporary')
  mkdirSync(temporary)
  const env = {
    HOME: options.directory,
    PATH: `${goRoot}/bin:/usr/bin:/bin`,
    GOROOT: goRoot,
    GOPATH: path,
    GOCACHE: options.cacheDirectory,
    // what a dead build leaves goes with the directory
    GOTMPDIR: temporary,
    // the tree has its dependencies under vendor/, and only this mode finds packages of staging/ by their links in there
    GO111MODULE: 'off',
    CGO_ENABLED: '0',
  }
  return {
    path,
    run: async (argv, cwd) => (await runRequired(dieWithParent(['nice', '-n', '10', ...argv]), { env, cwd })).stdout,
  }
}
