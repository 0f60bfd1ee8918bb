import t from 'tap'
import { startSystem } from './system.js'

t.test('what a deployment gives is listed, and one value is printed bare', { timeout: 180_000 }, async (t) => {
  const system = await startSystem(t)
  const text = `line one\n${'x'.repeat(30_000)}\nlast "line"\n`
  t.match(await system.lichen('output'), { code: 2, stderr: 'lichen: nothing is deployed\n' })
  t.equal((await system.lichen('apply', system.plan({ one: { blueprint: 'giver', with: { text } } }, 'demo'))).code, 0)

  await t.test('the table has no secret', async (t) => {
    const { code, stdout } = await system.lichen('output')
    t.equal(code, 0)
    t.equal(stdout, ['COMPONENT  NAME     VALUE     DESCRIPTION', 'one        file     (secret)  What was written.', 'one        members  a node-1', 'one        port     8080      A number.', ''].join('\n'))
    t.match(JSON.parse((await system.lichen('output', '--json')).stdout), [{ name: 'file', isSecret: true, value: null }, { name: 'members', value: ['a', 'node-1'] }, { name: 'port', value: 8080 }])
    t.match(await system.lichen('output', '--component', 'two'), { code: 0, stdout: 'deployment "demo", component two, gives nothing\n' })
  })

  await t.test('a file comes out as it is, everything else with a newline', async (t) => {
    t.strictSame(await system.lichen('output', 'file', '--deployment', 'demo'), { code: 0, stdout: text, stderr: '' })
    t.strictSame(await system.lichen('output', 'port', '--deployment', 'latest'), { code: 0, stdout: '8080\n', stderr: '' })
    t.strictSame(await system.lichen('output', 'members', '--project', 'default'), { code: 0, stdout: 'a\nnode-1\n', stderr: '' })
    t.match(JSON.parse((await system.lichen('output', 'file', '--json')).stdout), { component: 'one', name: 'file', value: text, isSecret: true })
  })

  await t.test('mistakes are told with what there is', async (t) => {
    t.match(await system.lichen('output', 'nothing'), { code: 2, stdout: '', stderr: 'lichen: deployment "demo" has no output "nothing"; it has one/file, one/members, one/port (OUTPUT_UNKNOWN)\n' })
    t.match(await system.lichen('output', 'file', '--component', 'two'), { code: 2, stdout: '', stderr: /has no output two\/file; it has one\/file.*\(OUTPUT_UNKNOWN\)/ })
    t.match(await system.lichen('output', 'file', '--deployment', 'gone'), { code: 2, stderr: /there is no deployment "gone" in project "default" \(DEPLOYMENT_UNKNOWN\)/ })
    t.equal((await system.lichen('apply', system.plan({ one: { blueprint: 'giver', with: { text } }, two: { blueprint: 'giver', with: { text: 'second' } } }, 'demo'))).code, 0)
    t.match(await system.lichen('output', 'file'), { code: 2, stdout: '', stderr: 'lichen: several components have an output "file": one, two; say which: --component NAME\n' })
    t.strictSame(await system.lichen('output', 'file', '--component', 'two'), { code: 0, stdout: 'second\n', stderr: '' })
    const other = system.plan({ three: { blueprint: 'giver', with: { text: 'third' } } }, 'other')
    t.equal((await system.lichen('apply', other)).code, 0)
    t.match(await system.lichen('output', 'file'), { code: 2, stderr: /there are several deployments, among them default\/other and default\/demo; say which: --deployment NAME/ })
    t.strictSame((await system.lichen('output', 'file', '--deployment', 'latest')).stdout, 'third\n')
    t.equal((await system.lichen('destroy', other, '--yes')).code, 0)
    t.match(await system.lichen('output', 'file', '--deployment', 'other'), { code: 2, stderr: /was destroyed .*\(OUTPUT_GONE\)/ })
    t.strictSame((await system.lichen('output', 'file', '--component', 'one')).stdout, text, 'the destroyed one is no longer meant')
  })
})
