import { Value } from '@sinclair/typebox/value'
import { commandSchemas, isCommandSpec, type Command } from '../command/command-schema.js'
import type { CompiledAction, CompiledCommand } from '../blueprint/compiled-blueprint.js'
import { ValueError } from '../blueprint/compiled-value.js'
import type { EvaluationContext } from '../blueprint/expression.js'
import type { ErrorCode, Problem } from '../errors.js'
import { shapeProblems } from '../plan/shape-problems.js'

/** Where an action stands, for the messages of problems. */
export interface ActionPlace {
  readonly path: string
  readonly component: string
  readonly action: string
  readonly node: string
}

/** The action's commands, rendered in this context: `when` decided, `forEach` spread out, text converted to what the schema wants. */
export function renderCommands(action: CompiledAction, context: EvaluationContext, place: ActionPlace, problems: Problem[]): Command[] {
  return action.commands.flatMap((command, index) => {
    const report = (code: ErrorCode, message: string) => void problems.push({ code, path: place.path, message: `${place.component}: action "${place.action}", command ${index + 1}, on ${place.node}: ${message}` })
    try {
      return spread(command, context).flatMap((each) => renderCommand(command, each, report))
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      report(error.where === 'template' ? 'PLAN_TEMPLATE' : 'PLAN_EXPRESSION', `${error.path}: ${error.message}`)
      return []
    }
  })
}

function spread(command: CompiledCommand, context: EvaluationContext): EvaluationContext[] {
  if (command.forEach === undefined) return [context]
  const items = command.forEach(context)
  if (!Array.isArray(items)) throw new ValueError('expression', 'forEach', `must give a list, found ${JSON.stringify(items)}`)
  return items.map((item, index) => context.with({ item, index }))
}

function renderCommand(command: CompiledCommand, context: EvaluationContext, report: (code: ErrorCode, message: string) => void): Command[] {
  const when = command.when?.(context)
  if (when !== undefined && typeof when !== 'boolean') throw new ValueError('expression', 'when', `must give true or false, found ${JSON.stringify(when)}`)
  if (when === false) return []
  const schema = commandSchemas[command.kind]
  const raw = command.spec(context)
  // Templates give text; `port: "{{ params.port }}"` means a number.
  const spec = isCommandSpec(command.kind, raw) ? raw : Value.Convert(schema, raw)
  if (isCommandSpec(command.kind, spec)) return [{ name: String(command.name(context)), kind: command.kind, timeoutMs: command.timeoutMs, spec } as Command]
  for (const problem of shapeProblems(schema, spec, 'BLUEPRINT_COMMAND')) report('BLUEPRINT_COMMAND', `${command.kind}${problem.path === '' ? '' : `.${problem.path}`} ${problem.message}`)
  return []
}
