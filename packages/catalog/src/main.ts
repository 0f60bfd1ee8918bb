/** The linter of blueprints: `node packages/catalog/dist/main.js DIRECTORY`. Exit code 1 when there is a problem, 2 when the directory cannot be read. */
import { join } from 'node:path'
import { inspectCatalog } from './read-catalog.js'

const directory = process.argv[2] ?? 'catalog'
try {
  const { catalog, problems } = await inspectCatalog(directory)
  for (const { file, line, path, message, code } of problems) console.error(`${join(directory, file)}${line === undefined ? '' : `:${line}`}: ${path === '' ? '' : `${path}: `}${message} (${code})`)
  if (problems.length > 0) process.exitCode = 1
  else console.log(`${catalog.list().length} blueprints are in order: ${catalog.list().map(({ document }) => `${document.name} ${document.version}`).join(', ')}`)
} catch (error) {
  console.error(`cannot read ${directory}: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 2
}
