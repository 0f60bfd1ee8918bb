import { readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import t from 'tap'
import ts from 'typescript'

const root = resolve(import.meta.dirname, '../..')
const packages = readdirSync(join(root, 'packages')).filter((name) => statSync(join(root, 'packages', name)).isDirectory())

/** Who may import whom; what is not listed may import nothing of ours. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  core: [],
  protocol: ['core'],
  broker: ['core'],
  store: ['core'],
  catalog: ['core'],
  lab: ['core'],
  api: ['core', 'broker', 'store'],
  engine: ['core', 'protocol', 'broker', 'store'],
  agent: ['core', 'protocol'],
  cli: [],
  server: ['core', 'broker', 'store', 'catalog', 'api', 'engine'],
  demo: ['core', 'lab', 'server'],
}

function listSources(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    const path = join(directory, name)
    if (statSync(path).isDirectory()) return name === 'generated' ? [] : listSources(path)
    return name.endsWith('.ts') ? [path] : []
  })
}

/** Every module that a file names in import, export … from and import(). */
function listImports(source: ts.SourceFile): string[] {
  const names: string[] = []
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier)) names.push(node.moduleSpecifier.text)
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword && node.arguments[0] && ts.isStringLiteral(node.arguments[0])) names.push(node.arguments[0].text)
    ts.forEachChild(node, visit)
  }
  visit(source)
  return names
}

/** Places where `a.b` or a bare identifier `b` of the list is used, as text such as `Date.now`. */
function listUses(source: ts.SourceFile, wanted: readonly string[]): string[] {
  const found: string[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isPropertyAccessExpression(node) && wanted.includes(`${node.expression.getText(source)}.${node.name.text}`)) found.push(`${node.expression.getText(source)}.${node.name.text}`)
    if (ts.isCallExpression(node) && ts.isIdentifier(node.expression) && wanted.includes(node.expression.text)) found.push(node.expression.text)
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

const sources = packages.flatMap((name) => listSources(join(root, 'packages', name, 'src')).map((path) => ({ name, path, file: relative(root, path), source: ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ESNext, true) })))

t.test('every package has a rule', async (t) => t.strictSame(packages.filter((name) => allowed[name] === undefined), []))

t.test('packages import each other by name, and only those they may', async (t) => {
  for (const { name, file, path, source } of sources) {
    for (const imported of listImports(source)) {
      const ours = /^@lichen\/([a-z]+)(.*)$/.exec(imported)
      if (ours) {
        if (!(allowed[name] ?? []).includes(ours[1]!)) t.fail(`${file} may not import ${imported}`)
        if (ours[2] !== '') t.fail(`${file} imports ${imported} past its index`)
      }
      if (imported.startsWith('.') && !resolve(dirname(path), imported).startsWith(join(root, 'packages', name, 'src'))) t.fail(`${file} reaches out of its package: ${imported}`)
    }
  }
  t.ok(sources.length > 100)
})

t.test('core has no node: import, no clock, no randomness, no process, no timers', async (t) => {
  for (const { file, source } of sources.filter((entry) => entry.name === 'core')) {
    for (const imported of listImports(source)) if (imported.startsWith('node:')) t.fail(`${file} imports ${imported}`)
    for (const use of listUses(source, ['Date.now', 'performance.now', 'Math.random', 'process.env', 'process.exit', 'setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'])) t.fail(`${file} uses ${use}`)
  }
  t.pass('looked at all of core')
})

t.test('only main.ts files read the environment', async (t) => {
  for (const { file, source } of sources) if (basename(file) !== 'main.ts') for (const use of listUses(source, ['process.env'])) t.fail(`${file} uses ${use}`)
  t.pass('looked at all packages')
})

t.test('no file is a drawer', async (t) => {
  // A primitive is named after its kind of command, and one kind is `service`.
  const drawers = sources.map(({ file }) => file).filter((file) => !file.startsWith('packages/agent/src/primitives/') && /^(utils?|helpers?|common|shared|types|interfaces|manager|service|misc)\.ts$/.test(basename(file)))
  t.strictSame(drawers, [])
})

t.test('no module imports itself around a circle', async (t) => {
  const graph = new Map(sources.map(({ path, source }) => [path, listImports(source).filter((name) => name.startsWith('.')).map((name) => resolve(dirname(path), name.replace(/\.js$/, '.ts')))]))
  const state = new Map<string, 'open' | 'done'>()
  const visit = (path: string, trail: readonly string[]): void => {
    if (state.get(path) === 'done') return
    if (state.get(path) === 'open') return void t.fail([...trail.slice(trail.indexOf(path)), path].map((entry) => relative(root, entry)).join(' → '))
    state.set(path, 'open')
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path])
    state.set(path, 'done')
  }
  for (const path of graph.keys()) visit(path, [])
  t.pass('looked at all modules')
})

t.test('every file that the journey of a plan names is there', async (t) => {
  const text = readFileSync(join(root, 'docs/architecture.md'), 'utf8')
  const named = [...text.matchAll(/`((?:packages|test)\/[^`*]+)`/g)].map((match) => match[1]!)
  t.ok(named.length > 15)
  for (const path of named) t.ok(statSync(join(root, path), { throwIfNoEntry: false }), path)
})

t.test('every exported function and class says what it gives back', async (t) => {
  for (const { file, source } of sources) {
    for (const statement of source.statements) {
      if (!ts.canHaveModifiers(statement) || !ts.getModifiers(statement)?.some((modifier) => modifier.kind === ts.SyntaxKind.ExportKeyword)) continue
      const isFunction = ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement) || (ts.isVariableStatement(statement) && statement.declarationList.declarations.some((one) => one.initializer !== undefined && ts.isArrowFunction(one.initializer)))
      if (isFunction && ts.getJSDocCommentsAndTags(statement).length === 0) t.fail(`${file}:${source.getLineAndCharacterOfPosition(statement.getStart(source)).line + 1}: ${statement.getText(source).split('\n')[0]?.slice(0, 80)}`)
    }
  }
  t.pass('looked at all packages')
})
