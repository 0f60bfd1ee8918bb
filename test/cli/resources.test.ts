import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runLichen, startSystem } from './system.js'

t.test('nodes, tokens and blueprints are listed and changed, and mistakes are answered', { timeout: 180_000 }, async (t) => {
  const system = await startSystem(t)
  const textPlan = system.plan({ greeting: { blueprint: 'text-file', with: { text: 'hello' } } }, 'text')

  await t.test('every problem of a plan is shown with its path and code; exit code 2', async (t) => {
    const plan = system.plan({ one: { blueprint: 'nonsense' }, two: { blueprint: 'text-file', with: { text: 5 } } }, 'wrong')
    for (const command of ['apply', 'validate', 'preview']) {
      const { code, stderr } = await system.lichen(command, plan)
      t.equal(code, 2, command)
      t.match(stderr, /^ {2}components\[0\]\.blueprint: .*nonsense.* \(PLAN_UNKNOWN_BLUEPRINT\)$/m, command)
      t.match(stderr, /^ {2}components\[1\]\.with\.text: .* \(PLAN_BAD_PARAMETER\)$/m, command)
    }
    t.match(JSON.parse((await system.lichen('apply', plan, '--json')).stderr), { type: 'error', problems: [{ code: 'PLAN_UNKNOWN_BLUEPRINT' }, { code: 'PLAN_BAD_PARAMETER' }] })
    t.match(await system.lichen('validate', textPlan), { code: 0, stdout: /no problem found/ })
    const broken = join(system.directory, 'broken.yaml')
    writeFileSync(broken, 'components: [')
    t.match(await system.lichen('apply', broken), { code: 2, stderr: /PLAN_SYNTAX/ })
  })

  await t.test('nodes are listed, shown, labelled, cordoned; a plan then waits or is refused in words', async (t) => {
    t.match(await system.lichen('nodes'), { code: 0, stdout: /^node-1 +ready/m })
    t.match(await system.lichen('nodes', 'label', 'node-1', 'role=db', 'zone=a'), { code: 0, stdout: /role=db zone=a/ })
    t.match((await system.lichen('nodes', 'label', 'node-1', 'zone-')).stdout, /labels role=db\n/)
    t.match((await system.lichen('nodes', 'cordon', 'node-1')).code, 0)
    t.match((await system.lichen('nodes', 'show', 'node-1')).stdout, /ready, cordoned[^]*role=db/)
    t.match((await system.lichen('nodes', 'uncordon', 'node-1')).code, 0)
    t.match(await system.lichen('nodes', 'show', 'node-9'), { code: 2, stderr: /REQUEST_NOT_FOUND/ })
    t.match(JSON.parse((await system.lichen('nodes', '--json')).stdout), [{ id: 'node-1', state: 'ready', cordoned: false }])
  })

  await t.test('join-token prints the token alone, or cloud-init user data with it', async (t) => {
    t.match(await system.lichen('join-token', '--ttl', '30m', '--uses', '2', '--label', 'role=web'), { code: 0, stdout: /^lichen1\.[a-z0-9]+\.[\w-]+\.[0-9a-f]{64}\n$/ })
    t.match((await system.lichen('join-token', '--cloud-init')).stdout, /^#cloud-config\n[^]*gateway: "127\.0\.0\.1:\d+"[^]*token: "lichen1\./)
    t.match(await system.lichen('join-token', '--ttl', 'soon'), { code: 2, stderr: /duration such as/ })
  })

  await t.test('blueprints and dead letters are listed', async (t) => {
    t.match(await system.lichen('blueprints'), { code: 0, stdout: /^text-file +1\.0\.0 +A file with a text$/m })
    t.match(await system.lichen('blueprints', 'show', 'text-file'), { code: 0, stdout: /text-file/ })
    t.match(await system.lichen('dead-letters'), { code: 0, stdout: 'no dead letters\n' })
    t.match(await system.lichen('dead-letters', '--json'), { code: 0, stdout: '[]\n' })
    t.match(await system.lichen('dead-letters', 'replay', '--all'), { code: 0, stdout: 'no dead letters\n' })
    t.match(await system.lichen('dead-letters', 'show', 'outbox-1'), { code: 2, stderr: /there is no dead letter outbox-1[^]*REQUEST_NOT_FOUND/ })
    t.match(await system.lichen('dead-letters', 'replay', 'outbox-1'), { code: 2, stderr: /REQUEST_NOT_FOUND/ })
    t.match(await system.lichen('dead-letters', 'replay'), { code: 2, stderr: /the id of one dead letter is expected, or --all/ })
  })

  await t.test('a wrong token and none are exit code 4', async (t) => {
    t.match(await system.lichen('tasks', '--token', 'wrong'), { code: 4, stderr: /REQUEST_UNAUTHENTICATED[^]*not one of this server/ })
    t.match(await runLichen(t, t.testdir({}), 'tasks', '--url', system.server.apiUrl), { code: 4, stderr: /no token was sent/ })
  })
})
