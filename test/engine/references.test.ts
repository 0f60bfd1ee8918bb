import { actionId, encodeReference, nodeId, type Action, type Command } from '@lichen/core'
import t from 'tap'
import { resolveCommands } from '../../packages/engine/src/tasks/references.js'

const makeAction = (commands: readonly Command[]): Action => ({ id: actionId('a'), component: 'a', name: 'a', node: nodeId('n1'), group: 'g', mode: 'do', after: [], commands, timeoutMs: 1, limitMs: null, key: '', unchanged: null, verifies: [], retry: { attempts: 1, backoffMs: 0 } })
const note = (text: string): Command => ({ name: 'x', kind: 'note', timeoutMs: 1, spec: { text } })
const secret = (name: string): string => encodeReference({ kind: 'secret', name })
const output = (action: string, name: string): string => encodeReference({ kind: 'output', action, name })

t.test('a value goes in as it is, whatever is in it', async (t) => {
  for (const value of ['simple', 'with "quotes" and \\ and \n and \t', '$& $1 $$', '⟦secret:other⟧', '\u0000\ud83d\ude00', '']) {
    const resolved = resolveCommands(makeAction([note(`before ${secret('s')} after ${secret('s')}`)]), () => ({ value, isSecret: true }))
    if (!resolved.ok) return t.fail(value)
    t.strictSame(JSON.parse(resolved.value.bytes.toString()), [note(`before ${value} after ${value}`)])
    t.strictSame(resolved.value.secrets, [value])
  }
})

t.test('secret values are listed for masking, plain outputs are not', async (t) => {
  const resolved = resolveCommands(makeAction([note(secret('s')), note(output('b/i@n1', 'plain')), note(output('b/i@n1', 'hidden'))]), (reference) =>
    reference.kind === 'secret' ? { value: 'one', isSecret: true } : { value: reference.name, isSecret: reference.name === 'hidden' },
  )
  t.match(resolved, { ok: true, value: { secrets: ['one', 'hidden'] } })
})

t.test('every missing value is named at once', async (t) => {
  t.match(resolveCommands(makeAction([note(secret('s')), note(output('b/i@n1', 'port')), note(secret('s'))]), () => undefined), {
    ok: false,
    failure: { code: 'ACTION_REFERENCE', message: 'a needs the secret "s", which this deployment does not have, the output "port" of b/i@n1, which it did not give' },
  })
})

t.test('names that JSON escapes are found all the same', async (t) => {
  const seen: string[] = []
  resolveCommands(makeAction([note(secret('a"b\\c'))]), (reference) => {
    seen.push(reference.name)
    return { value: '', isSecret: false }
  })
  t.strictSame(seen, ['a"b\\c'])
})

t.test('commands without references are only encoded', async (t) => {
  const commands = [note('⟦ no reference ⟧')]
  t.strictSame(resolveCommands(makeAction(commands), () => ({ value: 'nobody asks for one', isSecret: true })), { ok: true, value: { bytes: Buffer.from(JSON.stringify(commands)), secrets: [] } })
})
