import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildCatalog } from '@lichen/core'
import t from 'tap'
import { eventually } from '../eventually.js'
import { openApi } from './api.js'
import { makeBlueprint, makePlan, startSystem } from './system.js'

const catalog = buildCatalog([
  makeBlueprint('cluster', `
parameters: {type: object, additionalProperties: false, required: [directory], properties: {directory: {type: string}, port: {type: integer, default: 6443}, script: {type: string, default: 'true'}}}
secrets: {adminPassword: {length: 24}}
outputs:
  kubeconfig: {type: string, secret: true, value: outputs.kubeconfig.kubeconfig, description: The credentials of the administrator.}
  endpoint: {type: string, value: 'node.id + ":" + string(params.port)'}
  uid: {type: integer, value: outputs.kubeconfig.uid}
  members: {type: list, value: '[node.id, outputs.kubeconfig.uid]'}
  adminPassword: {type: string, secret: true, value: secrets.adminPassword}
actions:
  start: {retry: {attempts: 1}, commands: [{name: start, run: {shell: '{{ params.script }}', unless: '{{ params.script }} && test -e {{ params.directory }}/kubeconfig'}}]}
  kubeconfig:
    retry: {attempts: 1}
    commands:
      - name: read the kubeconfig
        run: {shell: 'test -e {{ params.directory }}/kubeconfig', unless: 'test -e {{ params.directory }}/kubeconfig', outputs: {kubeconfig: {from: file, path: '{{ params.directory }}/kubeconfig', secret: true}}}
      - {name: 'say port {{ params.port }}', run: {shell: 'echo 1000', unless: 'echo 1000', outputs: {uid: {from: stdout}}}}
  remove: {commands: [{name: gone, note: {text: gone}}]}
`),
])

/** Lines of text as a file has them, exactly so many bytes with the last newline. */
const makeFile = (size: number): string => {
  const head = 'apiVersion: v1\n# "quotes", \\ backslash, \t tab, ümlaut, ⟦secret:x⟧ and $& \r\n'
  const bytes = size - Buffer.byteLength(head) - 1
  return `${head}${randomBytes(bytes).toString('hex').slice(0, bytes).replace(/(.{63})./g, '$1\n')}\n`
}

t.test('a file of 64 KiB comes back byte for byte: after the apply, after one in which nothing changed, and after restarts', async (t) => {
  const system = await startSystem(t, { catalog })
  const api = await openApi(t, system, catalog)
  await system.startAgent('n1')
  const file = makeFile(64 * 1024)
  t.equal(Buffer.byteLength(file), 65_536)
  const path = join(system.directory, 'kubeconfig')
  writeFileSync(path, file)
  const plan = makePlan('demo', [{ name: 'cp', blueprint: 'cluster', with: { directory: system.directory } }])
  const check = async (task: string, from = api) => {
    const answer = await from.get('/deployments/default/demo/outputs/cp/kubeconfig')
    t.equal(answer.code, 200, answer.text.slice(0, 300))
    const { value, ...rest } = JSON.parse(answer.text) as { value: string }
    t.ok(value === file, 'byte for byte')
    t.strictSame(rest, { component: 'cp', name: 'kubeconfig', type: 'string', description: 'The credentials of the administrator.', isSecret: true, task })
    t.equal(answer.headers['cache-control'], 'no-store')
  }
  const first = await system.submit(plan)
  t.equal((await system.ended(first)).outcome, 'succeeded')
  await check(first)

  const second = await system.submit(plan)
  const view = await system.ended(second)
  t.strictSame(['cp/start@n1', 'cp/kubeconfig@n1'].map((id) => view.actions.get(id as never)?.isUnchanged), [true, true])
  await check(second)
  await system.stopEngine()
  await check(second, await openApi(t, system, catalog))
  await system.startEngine()
  await check(second)

  const list = await api.get('/deployments/default/demo/outputs')
  const items = (JSON.parse(list.text) as { items: { name: string; value: unknown; isSecret: boolean; isReady: boolean }[] }).items
  t.strictSame(items.map(({ name, value, isSecret, isReady }) => [name, isSecret, isReady, value]), [
    ['adminPassword', true, true, null], ['endpoint', false, true, 'n1:6443'], ['kubeconfig', true, true, null], ['members', false, true, ['n1', '1000']], ['uid', false, true, 1000],
  ])
  const { value: password } = JSON.parse((await api.get('/deployments/default/demo/outputs/cp/adminPassword')).text) as { value: string }
  t.match(password, /^[A-Za-z0-9]{24}$/)
  const secretLine = file.split('\n')[3]!
  for (const [what, text] of [['list', list.text], ['log', await system.readLog(first)], ['events', JSON.stringify(await system.readEvents(first))], ['graph', JSON.stringify((await system.store.tasks.read(second))?.graph)]] as const) {
    t.notOk(text.includes(password) || text.includes(secretLine), `the ${what} has no secret`)
  }
})

t.test('the newest success counts: while a later apply runs, and when it failed; what is too long is no value', async (t) => {
  const system = await startSystem(t, { catalog })
  const api = await openApi(t, system, catalog)
  await system.startAgent('n1')
  const path = join(system.directory, 'kubeconfig')
  const apply = (more: object) => system.submit(makePlan('demo', [{ name: 'cp', blueprint: 'cluster', with: { directory: system.directory, ...more } }]))
  const read = async (name: string) => {
    const { code, text } = await api.get(`/deployments/default/demo/outputs/cp/${name}`)
    const body = JSON.parse(text) as { value: unknown; task: string; code: string; detail: string }
    return code === 200 ? [body.value, body.task] : [code, body.code, body.detail]
  }
  t.strictSame(await read('endpoint'), [404, 'DEPLOYMENT_UNKNOWN', 'there is no deployment "demo" in project "default"'])
  const failing = await apply({ script: 'exit 3' })
  t.equal((await system.ended(failing)).outcome, 'failed')
  t.strictSame(await read('kubeconfig'), [409, 'OUTPUT_NOT_READY', `output "kubeconfig" of "cp" in deployment "demo" is not there yet: cp/kubeconfig@n1 was skipped in ${failing}`])
  t.strictSame(await read('endpoint'), [409, 'OUTPUT_NOT_READY', `output "endpoint" of "cp" in deployment "demo" is not there yet: cp/kubeconfig@n1 was skipped in ${failing}`])
  t.match(await read('nothing'), [404, 'OUTPUT_UNKNOWN', /has no output cp\/nothing; it has cp\/adminPassword, cp\/endpoint, cp\/kubeconfig, cp\/members, cp\/uid$/])

  writeFileSync(path, 'one\n')
  const first = await apply({})
  await system.ended(first)
  t.strictSame(await read('kubeconfig'), ['one\n', first])

  writeFileSync(path, 'two')
  const waiting = await apply({ port: 7000, script: `touch ${system.directory}/waiting; until test -e ${system.directory}/go; do sleep 0.05; done` })
  await eventually(t, 'it runs', () => readFileSync(join(system.directory, 'waiting')).length === 0)
  t.strictSame([await read('kubeconfig'), await read('endpoint')], [['one\n', first], ['n1:6443', first]], 'while it runs, what was before')
  writeFileSync(join(system.directory, 'go'), '')
  await system.ended(waiting)
  t.strictSame([await read('kubeconfig'), await read('endpoint')], [['two', waiting], ['n1:7000', waiting]], 'no newline is added to a file without one')

  writeFileSync(path, makeFile(64 * 1024 + 1))
  const tooLong = await apply({ port: 7001 })
  const view = await system.ended(tooLong)
  t.match(view.actions.get('cp/kubeconfig@n1' as never)?.result?.failure, { code: 'COMMAND_OUTPUT', message: /is longer than 65536 bytes/ })
  t.strictSame(await read('kubeconfig'), ['two', waiting])
})

t.test('after a destroy they are gone, until the next apply gives them again', async (t) => {
  const system = await startSystem(t, { catalog })
  const api = await openApi(t, system, catalog)
  await system.startAgent('n1')
  writeFileSync(join(system.directory, 'kubeconfig'), 'one\n')
  const plan = makePlan('demo', [{ name: 'cp', blueprint: 'cluster', with: { directory: system.directory } }])
  await system.ended(await system.submit(plan))
  await system.ended(await system.submit(plan, 'check'))
  t.equal((await api.get('/deployments/default/demo/outputs/cp/kubeconfig')).code, 200, 'a check changes nothing')
  const destroy = await system.submit(plan, 'destroy')
  t.equal((await system.ended(destroy)).outcome, 'succeeded')
  for (const path of ['', '/cp/kubeconfig', '/cp/nothing']) {
    t.match(JSON.parse((await api.get(`/deployments/default/demo/outputs${path}`)).text), { status: 404, code: 'OUTPUT_GONE', detail: `deployment "demo" in project "default" was destroyed (task ${destroy}), and its outputs are gone with it` })
  }
  await system.ended(await system.submit(plan))
  t.equal((JSON.parse((await api.get('/deployments/default/demo/outputs/cp/kubeconfig')).text) as { value: string }).value, 'one\n')
})
