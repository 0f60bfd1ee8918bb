/**
 * An apt repository with the key that it is trusted for, and its lists. One command at a time on a node changes packages or their sources.
 *
 * 1. The key signs for this repository alone (`Signed-By`).
 * 2. A repository that apt refuses, or that does not answer, leaves the node as it was: with its files there, every later update of the node would fail.
 */
import { mkdir, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { CommandSpec } from '@lichen/core'
import { updateLists } from './apt.js'
import { checkConfinedKind } from './confinement.js'
import { lstatIfThere, replaceFile, syncDirectory } from './file.js'
import { type CommandContext, type Done, failure, type Finding, type Primitive } from './primitive.js'

type Spec = CommandSpec<'repository'>
type Wanted = Required<Pick<Spec, 'url' | 'suite' | 'key'>> & Pick<Spec, 'repository' | 'components'>

const sourcesDirectory = '/etc/apt/sources.list.d'
const keysDirectory = '/etc/apt/keyrings'
const captureBytes = 256 * 1024

/** See the file header. */
export const repository: Primitive<'repository'> = {
  async check(spec, context) {
    const confined = checkConfinedKind(`repository ${spec.repository}`, context.confine)
    if (confined) return { failure: confined }
    const present = await readFiles(spec)
    if (spec.state === 'absent') return present.every((text) => text === undefined) ? { isThere: true } : { isThere: false, difference: `- repository ${spec.repository}` }
    return isWanted(spec) ? await compare(spec, present, context) : failure('COMMAND_BAD_SPEC', `repository ${spec.repository}: url, suite and key are needed`)
  },

  async do(spec, context) {
    const leave = await context.lockPackages()
    try {
      if (context.deadline.reason) return {}
      if (spec.state === 'absent' || !isWanted(spec)) return await remove(spec)
      return await add(spec, context)
    } finally {
      leave()
    }
  },
}

const isWanted = (spec: Spec): spec is Wanted => spec.url !== undefined && spec.suite !== undefined && spec.key !== undefined

/** Paths of its two files: the key first, because the other one names it. */
const pathsOf = ({ repository: name }: Pick<Spec, 'repository'>): readonly [key: string, sources: string] => [join(keysDirectory, `${name}.asc`), join(sourcesDirectory, `${name}.sources`)]

/** deb822 (sources.list(5)). */
function buildFiles(spec: Wanted): readonly [key: string, sources: string] {
  const fields = { Types: 'deb', URIs: spec.url, Suites: spec.suite, ...(spec.components?.length ? { Components: spec.components.join(' ') } : {}), 'Signed-By': pathsOf(spec)[0] }
  return [`${spec.key.trim()}\n`, Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`).join('')]
}

async function readFiles(spec: Pick<Spec, 'repository'>): Promise<readonly (string | undefined)[]> {
  return await Promise.all(pathsOf(spec).map((path) => readFile(path, 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  })))
}

async function compare(spec: Wanted, present: readonly (string | undefined)[], context: CommandContext): Promise<Finding> {
  const [key, sources] = buildFiles(spec)
  const line = `${spec.url} ${spec.suite}${spec.components?.length ? ` ${spec.components.join(' ')}` : ''}`
  if (present[1] === undefined) return { isThere: false, difference: `+ ${line}` }
  if (present[1] !== sources) return { isThere: false, difference: `- ${present[1].trim().replaceAll('\n', '\n- ')}\n+ ${sources.trim().replaceAll('\n', '\n+ ')}` }
  if (present[0] !== key) return { isThere: false, difference: `${line}: another key` }
  const lists = await context.run({ argv: ['apt-get', 'indextargets', ...onlyThis(spec), '--format', '$(FILENAME)'], output: 'quiet', captureBytes })
  return lists.stdout.length > 0 ? { isThere: true } : { isThere: false, difference: `${line}: its lists are not fetched` }
}

/** Options under which apt sees this repository alone, and leaves the lists of others. */
const onlyThis = (spec: Wanted): readonly string[] => ['-o', `Dir::Etc::SourceList=${pathsOf(spec)[1]}`, '-o', 'Dir::Etc::SourceParts=/dev/null', '-o', 'APT::Get::List-Cleanup=false']

async function add(spec: Wanted, context: CommandContext): Promise<Done> {
  const before = await readFiles(spec)
  await writeFiles(spec, buildFiles(spec))
  const failed = await updateLists(`${spec.url} ${spec.suite}`, onlyThis(spec), context)
  if (failed === undefined) return {}
  await writeFiles(spec, before)
  return failed
}

async function writeFiles(spec: Pick<Spec, 'repository'>, texts: readonly (string | undefined)[]): Promise<void> {
  for (const directory of [keysDirectory, sourcesDirectory]) await mkdir(directory, { recursive: true, mode: 0o755 })
  for (const [index, path] of pathsOf(spec).entries()) {
    const text = texts[index]
    if (text === undefined) await rm(path, { force: true })
    else await replaceFile(path, Buffer.from(text, 'utf8'), { mode: 0o644, uid: undefined, gid: undefined })
  }
}

async function remove(spec: Spec): Promise<Done> {
  // The one that names the key goes first.
  for (const path of [...pathsOf(spec)].reverse()) {
    if (!(await lstatIfThere(path))) continue
    await rm(path)
    await syncDirectory(dirname(path))
  }
  return {}
}
