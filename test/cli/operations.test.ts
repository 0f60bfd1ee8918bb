import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startSystem } from './system.js'

t.test('operations of a deployment are listed, previewed, run and followed', { timeout: 180_000 }, async (t) => {
  const system = await startSystem(t)
  const words = join(system.workspace, 'words')
  t.match(await system.lichen('operations', '--deployment', 'text'), { code: 2, stderr: /OPERATION_NO_DEPLOYMENT/ })
  t.match(await system.lichen('apply', system.plan({ greeting: { blueprint: 'text-file', with: { text: 'hello' } } }, 'text')), { code: 0 })
  t.match(await system.lichen('operations', '--deployment', 'text'), { code: 0, stdout: /append +greeting +word="again" +Append a word/ })
  t.match(await system.lichen('run', 'append', '--deployment', 'text', '--preview'), { code: 0, stdout: /append text: 2 to run[^]*greeting\/append on node-1[^]*digest [0-9a-f]{64}/ })
  t.notOk(existsSync(words), 'a preview runs nothing')
  t.match(await system.lichen('run', 'append', '--deployment', 'text', '--set', 'word=more', '-n', 'node-1', '-c', 'greeting'), { code: 0, stdout: /^append text: task t-\S+$[^]*operation text succeeded: 1 changed/m })
  t.equal(readFileSync(words, 'utf8'), 'more\n')
  t.match(await system.lichen('run', 'apend', '--deployment', 'text'), { code: 2, stderr: /did you mean "append"/ })
})
