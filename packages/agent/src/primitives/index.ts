/** Every command kind with what does it. */
import type { Command, CommandKind } from '@lichen/core'
import { archive } from './archive.js'
import { directory } from './directory.js'
import { file } from './file.js'
import { note } from './note.js'
import { openstack } from './openstack/openstack.js'
import { packages } from './package.js'
import type { CommandContext, Done, Finding, Primitive } from './primitive.js'
import { probe } from './probe.js'
import { repository } from './repository.js'
import { run } from './run.js'
import { service } from './service.js'
import { user } from './user.js'

const primitives: { readonly [Kind in CommandKind]: Primitive<Kind> } = { package: packages, repository, file, directory, user, service, run, probe, archive, note, openstack }

/** One command joined with what does it. */
export interface Effect {
  /** False for kinds that only look (probe, note). */
  readonly hasEffect: boolean
  readonly isCheckable: boolean
  /** False when a power cut must not make one forget that it began: what cannot be checked, or would reboot the node again and again. */
  readonly mayBeginUnflushed: boolean
  /** True when doing is one program, so that a doing can go on from that program's end. */
  readonly isOneProgram: boolean
  recover(): void
  check(context: CommandContext): Promise<Finding>
  do(context: CommandContext): Promise<Done>
  verify(context: CommandContext): Promise<Finding>
}

/** The effect of the command. */
export function effectOf(command: Command): Effect {
  // The schema of each kind was checked when the order came in, so kind and spec belong together.
  const primitive = primitives[command.kind] as Primitive<CommandKind>
  const spec = command.spec as never
  return {
    hasEffect: primitive.do !== undefined,
    isCheckable: primitive.isCheckable?.(spec) ?? true,
    mayBeginUnflushed: (primitive.isCheckable?.(spec) ?? true) && !(command.kind === 'run' && command.spec.reboots),
    isOneProgram: command.kind === 'run',
    recover: () => primitive.recover?.(),
    check: (context) => primitive.check(spec, context),
    do: (context) => primitive.do?.(spec, context) ?? Promise.resolve({}),
    verify: (context) => (primitive.verify ?? primitive.check).call(primitive, spec, context),
  }
}
