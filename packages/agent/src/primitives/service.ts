/**
 * A systemd unit running or stopped, enabled or not, and started after the files it reads last changed.
 *
 * `restartOn` compares the time at which the unit's main process was started with the change time (ctime) of each file: both are times of the machine's
 * clock, kept by systemd and the kernel, so a restart that was never made is seen later, whoever changed the file and whenever the agent died. The
 * main process's start is taken, not when the unit became active: a file changed in between may have been read too early. The kernel stamps files with
 * a clock that may be one tick (10 ms at most) behind; so a file counts as changed after the start when it changed less than that before it, and a
 * restart waits until the last change is older.
 *
 * `reloadOn` is the same with the time of the last reload that succeeded: systemd keeps when the state of the unit last changed, also over a daemon-reload,
 * which makes it forget when `ExecReload` ran. One that failed leaves the unit with the old files, and is made again.
 */
import { statSync } from 'node:fs'
import type { CommandSpec } from '@lichen/core'
import { pause } from '../run/deadline.js'
import { checkConfinedKind } from './confinement.js'
import { type CommandContext, failure, type Finding, type Primitive } from './primitive.js'
import { readUnit, type UnitState } from './unit-state.js'

type Spec = CommandSpec<'service'>
const tickUs = 10_000
/** A service of Type=simple counts as started at once; one with a broken configuration is gone within this time. */
const settleMs = 400
const stateTimeoutMs = 90_000
const journalLines = 20

/** See the file header. */
export const service: Primitive<'service'> = {
  async check(spec, context) {
    const confined = checkConfinedKind(`service ${spec.unit}`, context.confine)
    if (confined) return { failure: confined }
    const state = await readUnit(spec.unit, context)
    if ('problem' in state) return context.mode === 'check' ? { isThere: false, difference: state.problem } : failure('COMMAND_SYSTEMD', `systemd cannot be asked: ${state.problem}`)
    const lines = compare(spec, state)
    return lines.length === 0 ? { isThere: true } : { isThere: false, difference: lines.map((line) => `${spec.unit}: ${line}`).join('\n') }
  },

  async do(spec, context) {
    let state = await readUnit(spec.unit, context)
    if ('problem' in state) return failure('COMMAND_SYSTEMD', `systemd cannot be asked: ${state.problem}`)
    if (state.needsReload || !state.isLoaded) {
      await context.run({ argv: ['systemctl', 'daemon-reload'] })
      state = await readUnit(spec.unit, context)
      if ('problem' in state) return failure('COMMAND_SYSTEMD', `systemd cannot be asked: ${state.problem}`)
    }
    const wantsRunning = spec.state !== 'stopped'
    if (wantsRunning && !state.isLoaded) return failure('COMMAND_UNIT_UNKNOWN', `unit ${spec.unit}: systemd says ${state.loadState}`)
    for (const argv of await planSteps(spec, state, context)) {
      const execution = await context.run({ argv })
      if (execution.exitCode !== 0) return await explain(spec.unit, `\`${argv.join(' ')}\` ${execution.startError ?? `ended with exit code ${execution.exitCode}`}`, context)
    }
    return {}
  },

  async verify(spec, context) {
    const first = await awaitSteady(spec, context)
    if ('problem' in first) return failure('COMMAND_SYSTEMD', `systemd cannot be asked: ${first.problem}`)
    if (spec.state !== 'stopped' && first.activeState === 'active' && (first.type === 'simple' || first.type === 'exec' || first.type === 'idle')) {
      await pause(settleMs, context.deadline)
      const second = await readUnit(spec.unit, context)
      if ('problem' in second) return failure('COMMAND_SYSTEMD', `systemd cannot be asked: ${second.problem}`)
      if (second.restarts !== first.restarts) return await explain(spec.unit, 'it does not stay up: systemd has restarted it already', context)
      if (second.activeState !== 'active') return await explainState(spec, second, context)
      return compareAgain(spec, second, context)
    }
    return await compareAgain(spec, first, context)
  },
}

async function compareAgain(spec: Spec, state: UnitState, context: CommandContext): Promise<Finding> {
  const lines = compare(spec, state)
  if (lines.length === 0) return { isThere: true }
  return await explainState(spec, state, context)
}

/** Lines that say how the unit differs from what is asked for. */
function compare(spec: Spec, state: UnitState): string[] {
  const lines: string[] = []
  const isRunning = state.activeState === 'active' || state.activeState === 'reloading' || isFinishedOneshot(spec, state)
  if (spec.state === 'stopped') {
    if (isRunning || state.activeState === 'activating') lines.push(`${state.activeState} → stopped`)
  } else if (!isRunning) lines.push(`${state.isLoaded ? state.activeState : state.loadState} → running`)
  else {
    const changed = changedSince(spec.restartOn ?? [], state.startedUs)
    const reread = changedSince(spec.reloadOn ?? [], state.loadedUs)
    if (changed.length > 0) lines.push(`restart: ${changed.join(', ')} changed after it was started`)
    else if (reread.length > 0) lines.push(`reload: ${reread.join(', ')} changed after it was read`)
  }
  const isEnabled = ['enabled', 'enabled-runtime', 'alias', 'static', 'indirect', 'generated', 'transient'].includes(state.unitFileState)
  if (spec.enabled === true && !isEnabled) lines.push(`${state.unitFileState || 'not installed'} → enabled`)
  // A static unit cannot be disabled; there is nothing to do then.
  if (spec.enabled === false && (state.unitFileState === 'enabled' || state.unitFileState === 'enabled-runtime')) lines.push('enabled → disabled')
  return lines
}

function changedSince(paths: readonly string[], readUs: number): string[] {
  return paths.filter((path) => changeTimeUs(path) + tickUs > readUs)
}

/** When the file's content or attributes last changed, microseconds since the epoch; 0 when it is not there. */
function changeTimeUs(path: string): number {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stats ? Number(stats.ctimeNs / 1000n) : 0
}

/** The systemctl calls that bring the unit to where it should be. */
async function planSteps(spec: Spec, state: UnitState, context: CommandContext): Promise<string[][]> {
  const steps: string[][] = []
  const lines = compare(spec, state)
  if (lines.some((line) => line.endsWith('→ enabled'))) steps.push(['systemctl', 'enable', spec.unit])
  if (lines.some((line) => line.endsWith('→ disabled'))) steps.push(['systemctl', 'disable', spec.unit])
  if (lines.some((line) => line.endsWith('→ stopped'))) steps.push(['systemctl', 'stop', spec.unit])
  if (lines.some((line) => line.endsWith('→ running'))) steps.push(['systemctl', 'reset-failed', spec.unit], ['systemctl', 'start', spec.unit])
  if (lines.some((line) => line.startsWith('restart:'))) steps.push(['systemctl', 'restart', spec.unit])
  if (lines.some((line) => line.startsWith('reload:'))) steps.push(['systemctl', 'reload', spec.unit])
  await waitForOlder([...(spec.restartOn ?? []), ...(spec.reloadOn ?? [])], context)
  return steps.filter((step) => step[1] !== 'reset-failed' || state.activeState === 'failed')
}

/** Resolves when the last change of each file is more than a tick old, so that a start from now on is after it. */
async function waitForOlder(paths: readonly string[], context: CommandContext): Promise<void> {
  const youngestUs = Math.max(0, ...paths.map(changeTimeUs))
  const ageMs = context.deadline.clock.now() - youngestUs / 1000
  const waitMs = (2 * tickUs) / 1000 - ageMs
  if (waitMs > 0 && ageMs >= 0) await pause(waitMs, context.deadline)
}

/** The unit's state once it is no longer on its way to another. */
async function awaitSteady(spec: Spec, context: CommandContext): Promise<UnitState | { readonly problem: string }> {
  const { clock } = context.deadline
  const until = clock.elapsed() + stateTimeoutMs
  for (;;) {
    const state = await readUnit(spec.unit, context)
    const isMoving = !('problem' in state) && (state.activeState === 'activating' || state.activeState === 'deactivating') && state.subState !== 'auto-restart'
    if (!isMoving || clock.elapsed() > until || context.deadline.reason) return state
    await pause(200, context.deadline)
  }
}

/** A oneshot unit does its work and is inactive again; that is as good as running. */
const isFinishedOneshot = (spec: Spec, state: UnitState): boolean =>
  spec.state !== 'stopped' && state.type === 'oneshot' && state.activeState === 'inactive' && state.result === 'success' && state.startedUs > 0

async function explainState(spec: Spec, state: UnitState, context: CommandContext): Promise<ReturnType<typeof failure>> {
  return await explain(spec.unit, `the unit is ${state.activeState} (${state.subState}${state.result === 'success' ? '' : `, ${state.result}`})`, context)
}

/** A failure with the unit's last lines in the journal: they say why. */
async function explain(unit: string, what: string, context: CommandContext): Promise<ReturnType<typeof failure>> {
  // What it printed last may be on its way there still.
  await context.run({ argv: ['journalctl', '--sync'], output: 'quiet' })
  const execution = await context.run({ argv: ['journalctl', '--unit', unit, '--lines', String(journalLines), '--no-pager', '--output', 'short-iso', '--quiet'], output: 'quiet', captureBytes: 16 * 1024 })
  const lines = context.log.masker.maskText(execution.stdout.toString('utf8').trim())
  return failure('COMMAND_SERVICE_FAILED', `${unit}: ${what}${lines === '' ? '; the journal has no lines of it' : `; its last lines in the journal:\n${lines}`}`)
}
