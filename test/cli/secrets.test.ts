import { readFileSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startSystem } from './system.js'

t.test('secrets of a deployment are listed, and rotated by an apply that touches what names them', { timeout: 180_000 }, async (t) => {
  const system = await startSystem(t)
  const at = (name: string) => readFileSync(join(system.workspace, name), 'utf8')
  const plan = system.plan({ one: { blueprint: 'keeper' }, two: { blueprint: 'keeper' } }, 'kept')
  t.match(await system.lichen('secrets', '--deployment', 'kept'), { code: 2, stderr: /OPERATION_NO_DEPLOYMENT/ })
  t.match(await system.lichen('apply', plan), { code: 0 })
  const first = { one: at('one.password'), two: at('two.password'), key: at('one.key') }
  t.match(first.one, /^[A-Za-z0-9]{20}$/)
  t.match(await system.lichen('secrets', '--deployment', 'kept'), { code: 0, stdout: /SECRET +VERSION +CAN ROTATE\n *one\.key +1 +no\n *one\.password +1 +yes\n/ })

  t.match(await system.lichen('rotate', 'one.password', '--deployment', 'kept', '--preview'), { code: 0, stdout: /rotation kept: 1 to run, 3 unchanged[^]*one\/keep on node-1/ })
  t.equal(at('one.password'), first.one, 'a preview rotates nothing')
  const rotated = await system.lichen('rotate', 'one.password', '--deployment', 'kept')
  t.match(rotated, { code: 0, stdout: /^rotation kept: task t-\S+$[^]*apply kept succeeded: 1 changed/m })
  const second = at('one.password')
  t.match(second, /^[A-Za-z0-9]{20}$/)
  t.not(second, first.one)
  t.equal(at('two.password'), first.two, 'another secret is as it was')
  t.notMatch(JSON.stringify(rotated), new RegExp(`${first.one}|${second}`))
  t.match(await system.lichen('secrets', '--deployment', 'kept'), { stdout: /one\.password +2 +yes/ })

  t.match(await system.lichen('apply', plan), { code: 0, stdout: /nothing had to change/ })
  unlinkSync(join(system.workspace, 'one.password'))
  t.match(await system.lichen('apply', plan), { code: 0 })
  t.equal(at('one.password'), second, 'what is put right has the value of now')

  t.match(await system.lichen('rotate', '--deployment', 'kept', '--yes'), { code: 0 })
  t.notOk([first.one, second].includes(at('one.password')))
  t.not(at('two.password'), first.two)
  t.equal(at('one.key'), first.key, 'what is fixed stays')

  t.match(await system.lichen('rotate', 'one.pasword', '--deployment', 'kept'), { code: 2, stderr: /secrets\[0\][^]*did you mean "one\.password"/ })
  t.match(await system.lichen('rotate', 'one.key', '--deployment', 'kept'), { code: 2, stderr: /SECRET_FIXED/ })
  t.match(await system.lichen('destroy', plan, '--yes'), { code: 0 })
  t.match(await system.lichen('rotate', '--deployment', 'kept'), { code: 2, stderr: /OPERATION_DESTROYED/ })
})
