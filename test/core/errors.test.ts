import { readdirSync, readFileSync } from 'node:fs'
import { buildErrorsDocument, errorTable, LichenError } from '@lichen/core'
import t from 'tap'

t.test('docs/errors.md lists exactly the codes of the table', async (t) => {
  const written = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
  t.equal(written, buildErrorsDocument(), 'run npm run docs:errors')
  const listed = [...written.matchAll(/^\| `([A-Z_]+)` \|/gm)].map((match) => match[1]).sort()
  t.strictSame(listed, Object.keys(errorTable).sort())
})

t.test('every code is AREA_WHAT in capitals and says what it means', async (t) => {
  for (const [code, entry] of Object.entries(errorTable)) {
    t.match(code, /^[A-Z]+(_[A-Z]+)*$/)
    t.ok(entry.meaning.endsWith('.'), `${code}: ${entry.meaning}`)
  }
})

t.test('an error carries its problems and the entry of its code', async (t) => {
  const error = new LichenError('PLAN_SHAPE', 'no', { problems: [{ code: 'PLAN_SHAPE', path: 'nodes', message: 'missing' }] })
  t.equal(error.entry.http, 422)
  t.equal(error.problems.length, 1)
})

t.test('no code of the table is unused', async (t) => {
  const packages = new URL('../../packages/', import.meta.url)
  const text = readdirSync(packages).map((name) => readSources(new URL(`${name}/src/`, packages))).join('\n')
  t.strictSame(Object.keys(errorTable).filter((code) => !new RegExp(`\\b${code}\\b`).test(text)), [])
})

function readSources(directory: URL): string {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && entry.name !== 'errors.ts')
    .map((entry) => readFileSync(`${entry.parentPath}/${entry.name}`, 'utf8'))
    .join('\n')
}
