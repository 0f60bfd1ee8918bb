/** From the text of `blueprint.yaml` and its templates to a compiled blueprint, with every problem found on the way. */
import { Value } from '@sinclair/typebox/value'
import { commandSchemas, defaultCommandTimeoutMs, type CommandKind } from '../command/command-schema.js'
import type { ErrorCode, Problem } from '../errors.js'
import { digestOf } from '../graph/digest.js'
import type { Parsed } from '../parsed.js'
import { BlueprintSchema, type Blueprint, type BlueprintAction, type BlueprintDocument } from './blueprint-schema.js'
import type { CompiledAction, CompiledBlueprint, CompiledCommand, CompiledOutput, CompiledProvision, CompiledRequirement, OutputType, ValueValidator } from './compiled-blueprint.js'
import { compileValue, guard, ValueError, type CompiledValue } from './compiled-value.js'
import { compileExpression, type CompiledExpression } from './expression.js'
import { shapeProblems } from '../plan/shape-problems.js'
import { parseYamlText } from '../plan/yaml-text.js'
import { compileTemplate, listIncluded } from './template.js'
import { compileValidator } from './value-validator.js'

/** Default retry of an action: one more try after five seconds helps against a mirror or a service that just was not ready; more would hide errors. */
const defaultRetry = { attempts: 2, backoffS: 5 }
/** Default length of a generated secret: 32 characters of 62 are 190 bits. */
const defaultSecretLength = 32

/** The compiled blueprint, or every problem: syntax, shape, JSON Schemas, expressions, templates. `templates`: file name → text. */
export function parseBlueprint(text: string, templates: Readonly<Record<string, string>>): Parsed<Blueprint> {
  const parsed = parseYamlText(text)
  if (!parsed.ok) return { ok: false, problems: parsed.faults.map((message) => ({ code: 'BLUEPRINT_SYNTAX', path: '', message })) }
  const { value } = parsed
  if (!Value.Check(BlueprintSchema, value)) return { ok: false, problems: shapeProblems(BlueprintSchema, value, 'BLUEPRINT_SHAPE') }
  const compiler = new BlueprintCompiler(value, templates)
  const compiled = compiler.compile()
  if (compiler.problems.length > 0) return { ok: false, problems: compiler.problems }
  return { ok: true, value: { document: value, templates, digest: digestOf({ document: value, templates }), compiled } }
}

class BlueprintCompiler {
  readonly problems: Problem[] = []
  constructor(
    readonly document: BlueprintDocument,
    readonly templates: Readonly<Record<string, string>>,
  ) {}

  compile(): CompiledBlueprint {
    const { document } = this
    return {
      validateParameters: this.#validator(document.parameters, 'parameters'),
      rules: (document.rules ?? []).map((rule, index) => ({ expression: this.#expression(rule.expression, `rules[${index}].expression`), message: rule.message, path: rule.path ?? '' })),
      secrets: toSecrets(document.secrets),
      requires: new Map(Object.entries(document.requires ?? {}).map(([name, entry]) => [name, this.#requirement(entry, `requires.${name}`)])),
      provides: new Map(Object.entries(document.provides ?? {}).map(([name, entry]) => [name, this.#provision(entry, `provides.${name}`)])),
      outputs: this.#outputs(document.outputs, 'outputs'),
      operations: new Map(Object.entries(document.operations ?? {}).map(([name, entry]) => [name, { validateParameters: this.#validator(entry.parameters, `operations.${name}.parameters`), waves: entry.waves }])),
      actions: this.#actions(),
    }
  }

  #requirement(entry: NonNullable<BlueprintDocument['requires']>[string], path: string): CompiledRequirement {
    return { interface: entry.interface, isOptional: entry.optional ?? false, with: this.#value(entry.with ?? {}, `${path}.with`) }
  }

  #provision(entry: NonNullable<BlueprintDocument['provides']>[string], path: string): CompiledProvision {
    return {
      interface: entry.interface,
      validateInputs: this.#validator(entry.inputs, `${path}.inputs`),
      secrets: toSecrets(entry.secrets),
      outputs: this.#outputs(entry.outputs, `${path}.outputs`),
      action: entry.action,
      removeAction: entry.removeAction,
    }
  }

  #outputs(outputs: Readonly<Record<string, { readonly type: OutputType; readonly value: string }>> = {}, path: string): CompiledOutput[] {
    return Object.entries(outputs).map(([name, { type, value }]) => ({ name, type, value: this.#expression(value, `${path}.${name}.value`) }))
  }

  #actions(): CompiledAction[] {
    const previous = new Map<string, string>()
    return Object.entries(this.document.actions).map(([name, action]) => {
      const compiled = this.#action(name, action, previous)
      if (compiled.on !== 'relation') previous.set(sequenceOf(compiled), name)
      return compiled
    })
  }

  #action(name: string, action: BlueprintAction, previous: ReadonlyMap<string, string>): CompiledAction {
    const path = `actions.${name}`
    const phase = action.phase ?? (name === 'preflight' || name === 'check' || name === 'leave' || name === 'remove' ? name : 'apply')
    const operation = action.operation ?? null
    const before = previous.get(sequenceOf({ phase, operation }))
    const retry = action.retry ?? (phase === 'check' ? { attempts: 1 } : defaultRetry)
    return {
      name,
      phase,
      operation,
      on: action.on ?? 'each',
      after: action.after ?? (before === undefined ? [] : [before]),
      needs: action.needs ?? (phase === 'preflight' ? [] : null),
      prepared: action.prepared ?? [],
      timeoutMs: action.timeoutS === undefined ? null : action.timeoutS * 1000,
      limitMs: action.limitS === undefined ? null : action.limitS * 1000,
      isGate: action.gate ?? false,
      maxParallel: action.maxParallel ?? null,
      isSerial: action.serial ?? false,
      isPerNode: action.perNode ?? false,
      isOnEveryNode: action.everyNode ?? false,
      retry: { attempts: retry.attempts, backoffMs: (retry.backoffS ?? defaultRetry.backoffS) * 1000 },
      commands: action.commands.flatMap((command, index) => this.#command(command, `${path}.commands[${index}]`)),
    }
  }

  #command(command: BlueprintAction['commands'][number], path: string): CompiledCommand[] {
    const kinds = (Object.keys(commandSchemas) as CommandKind[]).filter((kind) => command[kind] !== undefined)
    const kind = kinds[0]
    if (kind === undefined || kinds.length > 1) {
      this.#report('BLUEPRINT_COMMAND', path, kind === undefined ? `names no kind of command; the kinds are ${Object.keys(commandSchemas).join(', ')}` : `names ${kinds.length} kinds (${kinds.join(', ')}); a command has one`)
      return []
    }
    const when = command['when'] as string | undefined
    const forEach = command['forEach'] as string | undefined
    return [
      {
        name: this.#value(command['name'], `${path}.name`),
        kind,
        when: when === undefined ? undefined : this.#expression(when, `${path}.when`),
        forEach: forEach === undefined ? undefined : this.#expression(forEach, `${path}.forEach`),
        timeoutMs: command['timeoutS'] === undefined ? defaultCommandTimeoutMs : Number(command['timeoutS']) * 1000,
        spec: this.#spec(kind, command[kind] as Record<string, unknown>, `${path}.${kind}`),
      },
    ]
  }

  /** `file: {template: NAME}` takes its content from templates/NAME; only names that end in .liquid are rendered. */
  #spec(kind: CommandKind, spec: Record<string, unknown>, path: string): CompiledValue {
    const template = spec['template']
    const known: readonly string[] = [...Object.keys(commandSchemas[kind].properties), ...(kind === 'file' ? ['template'] : [])]
    for (const key of Object.keys(spec)) if (!known.includes(key)) this.#report('BLUEPRINT_COMMAND', `${path}.${key}`, `no such field; a ${kind} command has ${known.join(', ')}`)
    if (kind !== 'file' || template === undefined) return this.#value(spec, path)
    const { template: _omitted, ...rest } = spec
    const text = typeof template === 'string' && Object.hasOwn(this.templates, template) ? this.templates[template] : undefined
    if (text === undefined) {
      this.#report('BLUEPRINT_TEMPLATE', `${path}.template`, `no file "${String(template)}" ${String(template).startsWith('shared/') ? 'in the catalog' : 'in templates/'}`)
      return () => rest
    }
    const fields = this.#value(rest, path)
    const content = String(template).endsWith('.liquid') ? this.#compile('BLUEPRINT_TEMPLATE', () => guard('template', `templates/${String(template)}`, () => compileTemplate(text, this.templates)), () => '') : () => text
    if (String(template).endsWith('.liquid')) this.#checkIncluded(text, String(template), `${path}.template`)
    return (context) => ({ ...(fields(context) as object), content: content(context) })
  }

  /** Whether what a template includes is there, and what that includes. */
  #checkIncluded(text: string, name: string, path: string, within: readonly string[] = []): void {
    for (const included of listIncluded(text)) {
      const found = Object.hasOwn(this.templates, included) ? this.templates[included] : undefined
      if (found === undefined) this.#report('BLUEPRINT_TEMPLATE', path, `${name} includes "${included}", which is not there`)
      else if (within.includes(included)) this.#report('BLUEPRINT_TEMPLATE', path, `${name} includes itself by "${included}"`)
      else this.#checkIncluded(found, included, path, [...within, included])
    }
  }

  #validator(schema: Record<string, unknown> | undefined, path: string): ValueValidator {
    try {
      return compileValidator(schema)
    } catch (error) {
      this.#report('BLUEPRINT_SCHEMA', path, error instanceof Error ? error.message : String(error))
      return (value) => ({ value, problems: [] })
    }
  }

  #expression(text: string, path: string): CompiledExpression {
    return this.#compile('BLUEPRINT_EXPRESSION', () => guard('expression', path, () => compileExpression(text)), () => undefined)
  }

  #value(value: unknown, path: string): CompiledValue {
    for (const text of listTexts(value)) this.#checkIncluded(text, 'it', path)
    return this.#compile('BLUEPRINT_TEMPLATE', () => compileValue(value, path, this.templates), () => undefined)
  }

  #compile<T>(code: ErrorCode, work: () => T, fallback: T): T {
    try {
      return work()
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      this.#report(error.where === 'expression' ? 'BLUEPRINT_EXPRESSION' : code, error.path, error.message)
      return fallback
    }
  }

  #report(code: ErrorCode, path: string, message: string): void {
    this.problems.push({ code, path, message })
  }
}

/** Actions of the same sequence come one after the other unless they say otherwise. */
const sequenceOf = ({ phase, operation }: Pick<CompiledAction, 'phase' | 'operation'>): string => (operation === null ? phase : `${phase} ${operation}`)

const toSecrets = (secrets: BlueprintDocument['secrets']) => Object.entries(secrets ?? {}).map(([name, entry]) => ({ name, length: entry.length ?? defaultSecretLength, isFixed: entry.rotate === false }))

/** Every text of a value. */
function listTexts(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  return value === null || typeof value !== 'object' ? [] : Object.values(value).flatMap(listTexts)
}
