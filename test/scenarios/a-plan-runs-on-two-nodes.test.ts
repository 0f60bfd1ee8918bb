import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { actionOf, makePlan, startSystem } from './system.js'

t.test('a plan runs on two nodes, in the order of its components, and its log is kept', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  await system.startAgent('n2')
  const file = (node: string): string => join(system.directory, `first-$LICHEN_NODE`.replace('$LICHEN_NODE', node))
  const task = await system.submit(makePlan('two', [
    { name: 'first', blueprint: 'script', with: { script: `echo "one on $LICHEN_NODE"; sleep 0.2; touch ${system.directory}/first-$LICHEN_NODE` } },
    { name: 'second', blueprint: 'script', after: ['first'], with: { script: `test -e ${system.directory}/first-n1 && test -e ${system.directory}/first-n2 && echo "two on $LICHEN_NODE"` } },
  ]))
  const view = await system.ended(task)
  t.match(view, { outcome: 'succeeded', reason: 'all 4 actions succeeded', counts: { succeeded: 4 } })
  t.ok(existsSync(file('n1')) && existsSync(file('n2')))
  const log = await system.readLog(task)
  for (const line of ['one on n1', 'one on n2', 'two on n1', 'two on n2']) t.ok(log.includes(line), line)
  t.match(await system.store.tasks.read(task), { summary: { state: 'ended', outcome: 'succeeded', counts: { succeeded: 4 } } }, 'the row says so too')
  t.equal((await system.store.tasks.listUnowned(Date.now() + 1e9, 10)).length, 0)
  t.strictSame(system.logged.filter((line) => line.level === 'error'), [])
})

t.test('a secret reaches the node, and neither events nor log show it', async (t) => {
  const system = await startSystem(t)
  await system.startAgent('n1')
  const file = join(system.directory, 'password')
  const task = await system.submit(makePlan('secret', [{ name: 'app', blueprint: 'password', with: { file } }]))
  const view = await system.ended(task)
  t.equal(view.outcome, 'succeeded', view.reason)
  const password = readFileSync(file, 'utf8')
  t.match(password, /^[a-zA-Z0-9]{24}$/)
  const log = await system.readLog(task)
  t.match(log, /the password is/)
  t.notOk(log.includes(password), 'masked in the log')
  t.notOk(JSON.stringify(await system.readEvents(task)).includes(password), 'not in the events')
  t.notOk(JSON.stringify((await system.store.tasks.read(task))?.graph).includes(password), 'not in the graph')

  const again = await system.ended(await system.submit(makePlan('secret', [{ name: 'app', blueprint: 'password', with: { file } }])))
  t.equal(again.outcome, 'succeeded')
  t.equal(readFileSync(file, 'utf8'), password, 'the same deployment keeps its secret')
  t.equal(actionOf(again, 'app/write').isUnchanged, true, 'its check holds, so it is not run again')

  rmSync(file)
  const mended = await system.ended(await system.submit(makePlan('secret', [{ name: 'app', blueprint: 'password', with: { file } }])))
  t.equal(actionOf(mended, 'app/write').isUnchanged, false, 'what was taken away is brought back')
  t.equal(readFileSync(file, 'utf8'), password)
})
