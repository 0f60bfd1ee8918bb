/**
 * Reads blueprint directories: `<name>/blueprint.yaml` or `<name>/<version>/blueprint.yaml`, each with `templates/**` beside it. What stands in the catalog's directory `shared` is a template of
 * each blueprint that names it, under that path (`shared/…`): its digest covers it, and a change of it changes those blueprints alone.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, dirname, join, relative, sep } from 'node:path'
import { buildCatalog, checkBlueprint, LichenError, parseBlueprint, type Blueprint, type Catalog, type Problem } from '@lichen/core'
import { findLine } from './locate.js'

/** A problem, the file it is in (relative to the catalog) and the line, from 1, where one can be told. */
export interface FileProblem extends Problem {
  readonly file: string
  readonly line?: number
}

/** Templates of several blueprints. */
const sharedDirectory = 'shared'

/** What the files of a directory hold, by their path in it. */
type Files = Readonly<Record<string, string>>

interface BlueprintFile {
  /** `<name>/blueprint.yaml` or `<name>/<version>/blueprint.yaml`. */
  readonly file: string
  readonly text: string
}

interface Inspection {
  readonly catalog: Catalog
  readonly problems: readonly FileProblem[]
}

/** What is in a directory: the blueprints that parse, and every problem of all. */
export async function inspectCatalog(directory: string): Promise<Inspection> {
  return inspectFiles(await readFiles(directory))
}

function inspectFiles(files: Files): Inspection {
  const problems: FileProblem[] = []
  const read: (BlueprintFile & { readonly blueprint: Blueprint })[] = []
  const report = ({ file, text }: BlueprintFile, found: readonly Problem[]): void => {
    for (const problem of found) {
      const line = findLine(text, problem.path)
      problems.push({ ...problem, file, ...(line === undefined ? {} : { line }) })
    }
  }
  const shared = Object.fromEntries(Object.entries(listWithin(sharedDirectory, files)).map(([name, text]) => [`${sharedDirectory}/${name}`, text]))
  const unnamed = new Set(Object.keys(shared))
  for (const folder of listBlueprints(files)) {
    const file = join(folder, 'blueprint.yaml')
    const entry = { file, text: files[file]! }
    const own = listWithin(join(folder, 'templates'), files)
    const named = listNamed(shared, [entry.text, ...Object.values(own)])
    for (const name of named) unnamed.delete(name)
    report(entry, checkOwn(own))
    const parsed = parseBlueprint(entry.text, { ...own, ...Object.fromEntries(named.map((name) => [name, shared[name]!])) })
    if (!parsed.ok) report(entry, parsed.problems)
    else {
      const twin = read.find(({ blueprint: { document } }) => document.name === parsed.value.document.name && document.version === parsed.value.document.version)
      report(entry, checkPlace(entry.file, parsed.value, twin?.file))
      read.push({ ...entry, blueprint: parsed.value })
    }
  }
  for (const file of unnamed) problems.push({ code: 'BLUEPRINT_TEMPLATE', path: '', message: 'no blueprint names it', file })
  const catalog = buildCatalog(read.map((entry) => entry.blueprint))
  for (const entry of read) report(entry, checkBlueprint(entry.blueprint, catalog))
  return { catalog, problems }
}

/** Whether the directories are named after what is in them, and no version stands in two. */
function checkPlace(file: string, { document }: Blueprint, twin: string | undefined): Problem[] {
  const folders = file.split(sep).slice(0, -1)
  const problems: Problem[] = []
  if (folders[0] !== document.name) problems.push({ code: 'BLUEPRINT_SHAPE', path: 'name', message: `"${document.name}" is not the name of its directory` })
  if (folders.length > 1 && folders[1] !== document.version) problems.push({ code: 'BLUEPRINT_SHAPE', path: 'version', message: `"${document.version}" is not the version that its directory is named after` })
  if (twin !== undefined) problems.push({ code: 'BLUEPRINT_SHAPE', path: 'version', message: `${document.name} ${document.version} stands in ${twin} too` })
  return problems
}

/** Templates of its own may not stand where shared ones do: the same name would mean either. */
function checkOwn(templates: Files): Problem[] {
  const names = Object.keys(templates).filter((name) => name.startsWith(`${sharedDirectory}/`))
  return names.map((name) => ({ code: 'BLUEPRINT_TEMPLATE', path: '', message: `templates/${name} cannot be named: ${sharedDirectory}/ is what blueprints share` }))
}

/** The shared templates that texts name, and those that these name. */
function listNamed(shared: Files, texts: readonly string[]): string[] {
  const named = new Set<string>()
  const open = [...texts]
  for (let text = open.pop(); text !== undefined; text = open.pop()) {
    for (const name of Object.keys(shared)) {
      if (named.has(name) || !text.includes(name)) continue
      named.add(name)
      open.push(shared[name]!)
    }
  }
  return [...named].sort()
}

/** The catalog that was read last, and what its files held. */
let last: { readonly digest: string; readonly catalog: Catalog } | undefined

/**
 * The catalog in a directory. One whose files hold what they held when it was read last is not checked again, which takes a second of a processor.
 * @throws CATALOG_UNREADABLE with every problem of every blueprint (paths begin with the file) when there is one, or when the directory cannot be read
 */
export async function readCatalog(directory: string): Promise<Catalog> {
  const files = await readFiles(directory).catch((cause: unknown) => {
    throw new LichenError('CATALOG_UNREADABLE', `the catalog ${directory} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  })
  const digest = computeDigest(files)
  if (digest === last?.digest) return last.catalog
  const { catalog, problems } = inspectFiles(files)
  if (problems.length === 0) {
    last = { digest, catalog }
    return catalog
  }
  throw new LichenError('CATALOG_UNREADABLE', `the catalog ${directory} has ${problems.length} problem${problems.length === 1 ? '' : 's'}; first: ${problems[0]!.file}: ${problems[0]!.path}: ${problems[0]!.message}`, {
    problems: problems.map(({ file, line: _line, ...problem }) => ({ ...problem, path: `${file}: ${problem.path}` })),
  })
}

const computeDigest = (files: Files): string => createHash('sha256').update(JSON.stringify(files)).digest('hex')

/** The folders of blueprints: `<name>` and `<name>/<version>`. */
function listBlueprints(files: Files): string[] {
  const folders = Object.keys(files).filter((path) => basename(path) === 'blueprint.yaml').map((path) => dirname(path).split(sep))
  return folders.filter(([name, version, ...deeper]) => name !== '.' && name !== sharedDirectory && version !== 'templates' && deeper.length === 0).map((folder) => folder.join(sep)).sort()
}

/** The files of a folder, by their path in it. */
function listWithin(folder: string, files: Files): Files {
  const start = `${folder}${sep}`
  return Object.fromEntries(Object.entries(files).filter(([path]) => path.startsWith(start)).map(([path, text]) => [path.slice(start.length), text]))
}

async function readFiles(directory: string): Promise<Files> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const found = await Promise.all(entries.map(async (entry) => {
    const path = join(entry.parentPath, entry.name)
    return entry.isFile() || (entry.isSymbolicLink() && (await stat(path)).isFile()) ? [path] : []
  }))
  const paths = found.flat().sort()
  return Object.fromEntries(await Promise.all(paths.map(async (path) => [relative(directory, path), await readFile(path, 'utf8')] as const)))
}
