/** Where secrets may stand in the commands of the catalog: never where another user of a node sees them. */
import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { readCatalog } from '@lichen/catalog'
import { buildGraph, type Command, parsePlan } from '@lichen/core'
import t from 'tap'
import { makeNodesOf } from './plan-nodes.js'

const root = resolve(import.meta.dirname, '../..')

const holdsSecret = (value: unknown): boolean => JSON.stringify(value ?? null).includes('⟦secret:')

/** What of a command everybody on the node can see, and holds a secret. */
function findExposed({ kind, spec, name }: Command): string[] {
  const fields = spec as Readonly<Record<string, unknown>>
  const exposed: string[] = []
  if (holdsSecret(name)) exposed.push('name')
  // A list of processes shows arguments and scripts; not stdin, and the environment only to its own user.
  if (kind === 'run') exposed.push(...['argv', 'shell', 'unless', 'verify', 'creates', 'cwd'].filter((field) => holdsSecret(fields[field])))
  else if (kind === 'file') {
    if (holdsSecret(fields['content']) && (fields['secret'] !== true || !/^0?[0-7][0-7]0$/.test(String(fields['mode'] ?? '0644')))) exposed.push('content')
  } else if (kind !== 'openstack' && holdsSecret(spec)) exposed.push(kind)
  return exposed
}

t.test('no command of an example plan shows a secret to other users of its node', async (t) => {
  const catalog = await readCatalog(resolve(root, 'catalog'))
  let secrets = 0
  for (const file of readdirSync(resolve(root, 'examples')).filter((name) => name.endsWith('.yaml'))) {
    const parsed = parsePlan(readFileSync(resolve(root, 'examples', file), 'utf8'))
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
    const nodes = makeNodesOf(parsed.value.nodes)
    for (const kind of ['apply', 'destroy'] as const) {
      const graph = buildGraph({ plan: parsed.value, catalog, nodes, kind })
      if (!graph.ok) throw new Error(JSON.stringify(graph.problems))
      for (const action of graph.value.actions) {
        for (const command of action.commands) {
          if (holdsSecret(command)) secrets++
          t.same(findExposed(command), [], `${file}: ${action.id}: ${command.name}`)
        }
      }
    }
  }
  t.ok(secrets > 40, `${secrets} commands have secrets`)
})

t.test('what is looked for is found', (t) => {
  const command = (kind: string, spec: object): Command => ({ name: 'n', kind, spec, timeoutMs: 1 }) as unknown as Command
  const secret = '⟦secret:db.password⟧'
  t.same(findExposed(command('run', { argv: ['x', secret], env: { A: secret }, stdin: secret })), ['argv'])
  t.same(findExposed(command('run', { shell: `x ${secret}`, unless: `y ${secret}` })), ['shell', 'unless'])
  t.same(findExposed(command('file', { content: secret, mode: '0644', secret: true })), ['content'])
  t.same(findExposed(command('file', { content: secret, mode: '0640' })), ['content'])
  t.same(findExposed(command('file', { content: secret, mode: '0640', secret: true })), [])
  t.same(findExposed(command('probe', { command: [secret] })), ['probe'])
  t.end()
})
