/**
 * Resources of an OpenStack cloud, over its APIs: one process with one token for all of them, where the stock client is a process for each.
 *
 * 1. A resource is one part or several (parts.ts); a part is found by its keys, compared field by field, made or changed. What the spec does not name is left alone.
 * 2. In order when it is to be there, in reverse when it is not. Every step looks before it acts, so after a crash at any point the whole is done again.
 * 3. What is missing because something before it is missing is a difference, not a failure: doing the one makes way for the other.
 */
import type { CommandSpec, Failure } from '@lichen/core'
import { checkConfinedKind } from '../confinement.js'
import { type CommandContext, failure, type Finding, type Primitive } from '../primitive.js'
import { ApiFailure, type OpenstackCode } from './api-failure.js'
import { compare, describeNew, type Differences } from './compare.js'
import type { Part, Wanted } from './kind.js'
import { kindOf, splitResources } from './parts.js'
import { resolve, titleOf } from './resolve.js'
import { type JsonObject, Session } from './session.js'

type Spec = CommandSpec<'openstack'>

/** What may be brought about by earlier commands of a run that is only looked at, so that it is no failure there. */
const maybeLater: readonly string[] = ['COMMAND_OPENSTACK_UNREACHABLE', 'COMMAND_OPENSTACK_CREDENTIALS', 'COMMAND_OPENSTACK_NO_ENDPOINT'] satisfies OpenstackCode[]
/** Why a part cannot be there yet. */
const notYet: readonly string[] = ['COMMAND_OPENSTACK_NOT_FOUND', 'COMMAND_OPENSTACK_NO_ENDPOINT'] satisfies OpenstackCode[]

/** See the file header. */
export const openstack: Primitive<'openstack'> = {
  async check(spec, context) {
    const confined = checkConfinedKind(`openstack at ${spec.auth.url}`, context.confine)
    if (confined) return { failure: confined }
    const problem = await attempt(async () => await check(spec, context))
    if (!('failure' in problem) || context.mode === 'do' || !maybeLater.includes(problem.failure.code)) return problem
    return { isThere: false, difference: problem.failure.message }
  },

  async do(spec, context) {
    return await attempt(async () => {
      const { session, parts } = await begin(spec, context)
      for (const part of parts) {
        if (context.deadline.reason) break
        await (spec.state === 'absent' ? remove(part, session) : bringAbout(part, session))
      }
      return {}
    })
  },
}

async function attempt<Result>(work: () => Promise<Result>): Promise<Result | { readonly failure: Failure }> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof ApiFailure) return failure(error.code, error.message)
    throw error
  }
}

async function begin(spec: Spec, context: CommandContext): Promise<{ session: Session; parts: readonly Part[] }> {
  if ((spec.auth.project === undefined) === (spec.auth.system === undefined)) throw new ApiFailure('COMMAND_BAD_SPEC', 'auth: exactly one of project and system must be given')
  const parts = splitResources(spec.resources, spec.auth)
  for (const { values } of parts) if (typeof values['password'] === 'string') context.log.masker.add(values['password'])
  return { session: await Session.open(spec.auth, context), parts: spec.state === 'absent' ? [...parts].reverse() : parts }
}

async function check(spec: Spec, context: CommandContext): Promise<Finding> {
  const { session, parts } = await begin(spec, context)
  const lines: string[] = []
  for (const part of parts) lines.push(...(spec.state === 'absent' ? await describePresent(part, session) : await describeDifference(part, session)))
  return lines.length === 0 ? { isThere: true } : { isThere: false, difference: lines.join('\n') }
}

async function describeDifference(part: Part, session: Session): Promise<readonly string[]> {
  try {
    const { found, differences } = await look(part, session)
    if (!found) return [describeMissing(part)]
    return differences.lines.length === 0 ? [] : [`  ${titleOf(part)}:`, ...differences.lines]
  } catch (error) {
    if (!(error instanceof ApiFailure) || !notYet.includes(error.code)) throw error
    return [describeMissing(part)]
  }
}

function describeMissing(part: Part): string {
  const more = describeNew(part)
  return `+ ${titleOf(part)}${more === '' ? '' : `: ${more}`}`
}

interface Sight {
  readonly wanted: Wanted
  readonly found: JsonObject | undefined
  readonly differences: Differences
}

async function look(part: Part, session: Session): Promise<Sight> {
  const wanted = await resolve(part, session)
  const found = await kindOf(part.kind).find(wanted.keys, session)
  return { wanted, found, differences: found ? await compare(wanted, found, session) : { changes: {}, fixed: [], lines: [] } }
}

async function bringAbout(part: Part, session: Session): Promise<void> {
  const kind = kindOf(part.kind)
  const { wanted, found, differences } = await look(part, session)
  const { log } = session.context
  if (!found) {
    await create(wanted, session)
    return log.say(describeMissing(part))
  }
  if (differences.lines.length === 0) return
  if (differences.fixed.length > 0) {
    if (!kind.replace) throw new ApiFailure('COMMAND_OPENSTACK_FIXED', `${wanted.title} is there, and ${differences.fixed.join(', ')} cannot be changed:\n${differences.lines.join('\n')}`)
    await kind.replace(wanted, found, session)
  } else {
    await kind.change?.(wanted, found, differences.changes, session)
  }
  log.say([`${wanted.title}:`, ...differences.lines].join('\n'))
}

/** Somebody may be quicker: then it is there, and what matters is how. */
async function create(wanted: Wanted, session: Session): Promise<void> {
  try {
    await kindOf(wanted.part.kind).create(wanted, session)
  } catch (error) {
    if (!(error instanceof ApiFailure) || error.code !== 'COMMAND_OPENSTACK_CONFLICT' || !(await look(wanted.part, session)).found) throw error
  }
}

async function describePresent(part: Part, session: Session): Promise<readonly string[]> {
  return (await findRemovable(part, session)) ? [`- ${titleOf(part)}`] : []
}

async function remove(part: Part, session: Session): Promise<void> {
  const present = await findRemovable(part, session)
  if (!present) return
  try {
    await kindOf(part.kind).remove?.(present.found, present.wanted.keys, session)
  } catch (error) {
    if (!(error instanceof ApiFailure) || error.code !== 'COMMAND_OPENSTACK_NOT_FOUND') throw error
  }
  session.context.log.say(`- ${titleOf(part)}`)
}

/** What is to be removed; undefined when it is not there, and when it goes with what it belongs to. */
async function findRemovable(part: Part, session: Session): Promise<{ readonly wanted: Wanted; readonly found: JsonObject } | undefined> {
  const kind = kindOf(part.kind)
  if (!kind.remove) return undefined
  try {
    const wanted = await resolve(part, session, 'keys')
    const found = await kind.find(wanted.keys, session)
    return found && !(await kind.isShared?.(found, part, session)) ? { wanted, found } : undefined
  } catch (error) {
    // In what is not there, nothing is.
    if (error instanceof ApiFailure && error.code === 'COMMAND_OPENSTACK_NOT_FOUND') return undefined
    throw error
  }
}
