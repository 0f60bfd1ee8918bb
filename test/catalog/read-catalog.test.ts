import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { inspectCatalog, readCatalog } from '@lichen/catalog'
import t from 'tap'

const root = resolve(import.meta.dirname, '../..')
const blueprint = (name: string, version: string, file = 'a.liquid'): string =>
  `apiVersion: lichen.dev/v1\nkind: Blueprint\nname: ${name}\nversion: ${version}\nsummary: s\nactions:\n  a: {commands: [{name: n, file: {path: /x, template: ${file}}}]}\n  remove: {commands: [{name: n, file: {path: /x, state: absent}}]}\n`

t.test('the catalog of the repository is in order', async (t) => {
  const { catalog, problems } = await inspectCatalog(resolve(root, 'catalog'))
  t.strictSame(problems, [])
  for (const name of ['etcd', 'mariadb', 'memcached', 'keystone', 'hello']) t.ok(catalog.find(name, '^1'), name)
})

t.test('several versions stand side by side, templates in folders too', async (t) => {
  const directory = t.testdir({
    web: { 'blueprint.yaml': blueprint('web', '1.0.0'), templates: { 'a.liquid': 'one' }, '2.0.0': { 'blueprint.yaml': blueprint('web', '2.0.0', 'deep/b.liquid'), templates: { deep: { 'b.liquid': 'two' } } } },
    'not-a-blueprint': { 'README.md': '' },
  })
  const catalog = await readCatalog(directory)
  t.strictSame(catalog.list().map(({ document }) => document.version), ['2.0.0', '1.0.0'])
  t.strictSame(catalog.find('web', '^2')?.templates, { 'deep/b.liquid': 'two' })
})

t.test('files that are links are read like others', async (t) => {
  const directory = t.testdir({
    elsewhere: { 'a.liquid': 'one', 'blueprint.yaml': blueprint('web', '1.0.0') },
    catalog: { web: { 'blueprint.yaml': t.fixture('symlink', '../../elsewhere/blueprint.yaml'), templates: { 'a.liquid': t.fixture('symlink', '../../../elsewhere/a.liquid') } } },
  })
  t.strictSame((await readCatalog(resolve(directory, 'catalog'))).find('web', '^1')?.templates, { 'a.liquid': 'one' })
})

t.test('what stands in `shared` is a template of each blueprint that names it, and part of its digest', async (t) => {
  const files = (text: string) => t.testdir({
    shared: { deep: { 'a.liquid': text } },
    one: { 'blueprint.yaml': blueprint('one', '1.0.0', 'shared/deep/a.liquid') },
    two: { 'blueprint.yaml': blueprint('two', '1.0.0'), templates: { 'a.liquid': 'own' } },
  })
  const before = await readCatalog(files('of {{ component.name }}'))
  t.strictSame(before.list().map(({ templates }) => templates), [{ 'shared/deep/a.liquid': 'of {{ component.name }}' }, { 'a.liquid': 'own' }])
  const after = await readCatalog(files('changed'))
  t.not(after.find('one', '*')?.digest, before.find('one', '*')?.digest)
  t.equal(after.find('two', '*')?.digest, before.find('two', '*')?.digest)
})

t.test('what a template includes of `shared` is a template of its blueprint too, through others as well', async (t) => {
  const files = (text: string) => t.testdir({
    shared: { 'a.liquid': "{% include 'shared/b.liquid' %}", 'b.liquid': text },
    one: { 'blueprint.yaml': blueprint('one', '1.0.0'), templates: { 'a.liquid': "{% include 'shared/a.liquid' %}" } },
  })
  const before = await readCatalog(files('before'))
  t.strictSame(Object.keys(before.list()[0]!.templates).sort(), ['a.liquid', 'shared/a.liquid', 'shared/b.liquid'])
  t.not((await readCatalog(files('after'))).list()[0]!.digest, before.list()[0]!.digest)
})

t.test('a shared template that nobody names, one that is not there, and one of the same name are problems', async (t) => {
  const { problems } = await inspectCatalog(t.testdir({
    shared: { 'a.sh': '' },
    one: { 'blueprint.yaml': blueprint('one', '1.0.0', 'shared/b.sh') },
    two: { 'blueprint.yaml': blueprint('two', '1.0.0'), templates: { 'a.liquid': '', 'shared': { 'c.sh': '' } } },
  }))
  t.match(problems, [
    { file: 'one/blueprint.yaml', code: 'BLUEPRINT_TEMPLATE', message: 'no file "shared/b.sh" in the catalog' },
    { file: 'two/blueprint.yaml', code: 'BLUEPRINT_TEMPLATE', message: 'templates/shared/c.sh cannot be named: shared/ is what blueprints share' },
    { file: 'shared/a.sh', code: 'BLUEPRINT_TEMPLATE', message: 'no blueprint names it' },
  ])
})

t.test('every problem of every blueprint is reported with its file', async (t) => {
  const directory = t.testdir({
    one: { 'blueprint.yaml': blueprint('one', '1.0.0', 'gone.liquid') },
    two: { 'blueprint.yaml': 'name: [' },
    three: { 'blueprint.yaml': blueprint('four', '1.0.0'), templates: { 'a.liquid': '' } },
  })
  await t.rejects(readCatalog(directory), { code: 'CATALOG_UNREADABLE', problems: [{ path: /^one\/blueprint\.yaml: actions\.a/ }, { path: /^three\/blueprint\.yaml: name/ }, { code: 'BLUEPRINT_SYNTAX', path: /^two/ }] })
  await t.rejects(readCatalog(`${directory}/nowhere`), { code: 'CATALOG_UNREADABLE' })
})

t.test('what is unchanged is not checked again, and what has changed is', async (t) => {
  const directory = t.testdir({ web: { 'blueprint.yaml': blueprint('web', '1.0.0'), templates: { 'a.liquid': 'one' } } })
  const catalog = await readCatalog(directory)
  t.equal(await readCatalog(directory), catalog)
  writeFileSync(`${directory}/web/templates/a.liquid`, 'two')
  t.strictSame((await readCatalog(directory)).list()[0]?.templates, { 'a.liquid': 'two' })
  writeFileSync(`${directory}/web/templates/a.liquid`, '{{ nobody.knows }}')
  await t.rejects(readCatalog(directory), { code: 'CATALOG_UNREADABLE' })
  await t.rejects(readCatalog(directory), { code: 'CATALOG_UNREADABLE' })
  rmSync(`${directory}/web/templates/a.liquid`)
  await t.rejects(readCatalog(directory), { code: 'CATALOG_UNREADABLE' })
  writeFileSync(`${directory}/web/templates/a.liquid`, 'two')
  t.strictSame((await readCatalog(directory)).list()[0]?.templates, { 'a.liquid': 'two' })
})

t.test('directories are named after what is in them, and no version stands in two', async (t) => {
  const files = (version: string) => ({ 'blueprint.yaml': blueprint('web', version), templates: { 'a.liquid': '' } })
  const { problems } = await inspectCatalog(t.testdir({ web: { ...files('1.0.0'), '1.0.0': files('1.0.0'), '3.0.0': files('2.0.0') } }))
  t.match(problems, [
    { file: 'web/1.0.0/blueprint.yaml', line: 4, path: 'version', message: 'web 1.0.0 stands in web/blueprint.yaml too' },
    { file: 'web/3.0.0/blueprint.yaml', line: 4, path: 'version', message: '"2.0.0" is not the version that its directory is named after' },
  ])
})

t.test('the linter prints file, path, message and code, and says it by its exit code', async (t) => {
  const run = (directory: string) => spawnSync(process.execPath, [resolve(root, 'packages/catalog/dist/main.js'), directory], { encoding: 'utf8' })
  const bad = run(t.testdir({ one: { 'blueprint.yaml': blueprint('one', '1.0.0', 'gone.liquid') } }))
  t.equal(bad.status, 1)
  t.match(bad.stderr, /one\/blueprint\.yaml:7: actions\.a\.commands\[0\]\.file\.template: no file "gone\.liquid" in templates\/ \(BLUEPRINT_TEMPLATE\)/)
  t.equal(run('/nowhere-at-all').status, 2)
  const good = run(resolve(root, 'catalog'))
  t.equal(good.status, 0)
  t.match(good.stdout, /blueprints are in order/)
})
