/** Commands on the wire: JSON of Command[] in UTF-8, checked against core's schemas where it comes in. */
import { Value } from '@sinclair/typebox/value'
import { type Command, type CommandKind, commandSchemas, isCommandSpec, type Parsed, type Problem } from '@lichen/core'

/** Problems listed for one order: enough to see what is wrong, not a book. */
const maxProblems = 20

/** The commands as they stand in an order. */
export const encodeCommands = (commands: readonly Command[]): Buffer => Buffer.from(JSON.stringify(commands), 'utf8')

/** The commands in these bytes, or every problem found in them (code ORDER_MALFORMED, at most 20). None: nothing of the action is for this node. */
export function decodeCommands(bytes: Uint8Array): Parsed<Command[]> {
  let commands: unknown
  try {
    commands = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
  } catch (error) {
    return { ok: false, problems: [problem('', `the commands are no JSON: ${(error as Error).message}`)] }
  }
  if (!Array.isArray(commands)) return { ok: false, problems: [problem('', 'the commands must be a list')] }
  const problems = commands.flatMap((command, index) => checkCommand(command, `[${index}]`)).slice(0, maxProblems)
  return problems.length > 0 ? { ok: false, problems } : { ok: true, value: commands as Command[] }
}

function checkCommand(command: unknown, path: string): Problem[] {
  if (typeof command !== 'object' || command === null) return [problem(path, 'a command must be an object')]
  const { name, kind, timeoutMs, spec } = command as Record<string, unknown>
  const problems: Problem[] = []
  if (typeof name !== 'string') problems.push(problem(`${path}.name`, 'must be a text'))
  if (typeof timeoutMs !== 'number' || !Number.isInteger(timeoutMs) || timeoutMs < 1) problems.push(problem(`${path}.timeoutMs`, 'must be a whole number of milliseconds above 0'))
  if (typeof kind !== 'string' || !Object.hasOwn(commandSchemas, kind)) return [...problems, problem(`${path}.kind`, `no command kind ${JSON.stringify(kind)} on this node`)]
  if (!isCommandSpec(kind as CommandKind, spec)) {
    for (const error of Value.Errors(commandSchemas[kind as CommandKind], spec)) problems.push(problem(`${path}.spec${error.path.replaceAll('/', '.')}`, error.message))
  }
  return problems
}

const problem = (path: string, message: string): Problem => ({ code: 'ORDER_MALFORMED', path, message })
