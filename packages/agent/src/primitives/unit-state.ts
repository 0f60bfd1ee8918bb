/** What systemd says of a unit, read from `systemctl show` (systemctl(1)); its output is one `Name=value` for each property asked for. */
import type { CommandContext } from './primitive.js'

/** The part of a unit's properties that decisions are made on. */
export interface UnitState {
  readonly isLoaded: boolean
  /** LoadState, for messages: loaded, not-found, masked, … */
  readonly loadState: string
  /** active, inactive, failed, activating, … */
  readonly activeState: string
  readonly subState: string
  readonly result: string
  /** enabled, disabled, static, masked, … or empty. */
  readonly unitFileState: string
  /** simple, exec, notify, forking, oneshot, … or empty for units that are no services. */
  readonly type: string
  readonly needsReload: boolean
  readonly restarts: number
  /** When its main process was started (or, without one, when the unit left inactive), microseconds since the epoch; 0 when never. */
  readonly startedUs: number
  /** When it last read its files: its start, or the end of a later reload that succeeded. Microseconds since the epoch. */
  readonly loadedUs: number
}

const properties = ['LoadState', 'ActiveState', 'SubState', 'Result', 'UnitFileState', 'Type', 'NeedDaemonReload', 'NRestarts', 'ExecMainStartTimestamp', 'InactiveExitTimestamp', 'StateChangeTimestamp', 'ReloadResult']

/** The unit's state now, or why systemd cannot be asked. */
export async function readUnit(unit: string, context: CommandContext): Promise<UnitState | { readonly problem: string }> {
  const execution = await context.run({ argv: ['systemctl', 'show', '--timestamp=us+utc', `--property=${properties.join(',')}`, '--', unit], output: 'quiet', captureBytes: 64 * 1024 })
  if (execution.exitCode !== 0) return { problem: execution.startError ?? execution.tail }
  return parseUnit(execution.stdout.toString('utf8'))
}

/** The state in the output of `systemctl show --timestamp=us+utc`. */
export function parseUnit(text: string): UnitState {
  const values = new Map(text.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
  const value = (name: string): string => values.get(name) ?? ''
  const startedUs = parseTimestamp(value('ExecMainStartTimestamp')) || parseTimestamp(value('InactiveExitTimestamp'))
  return {
    isLoaded: value('LoadState') === 'loaded',
    loadState: value('LoadState'),
    activeState: value('ActiveState'),
    subState: value('SubState'),
    result: value('Result'),
    unitFileState: value('UnitFileState'),
    type: value('Type'),
    needsReload: value('NeedDaemonReload') === 'yes',
    restarts: Number(value('NRestarts')) || 0,
    startedUs,
    // a running unit changes its state by nothing but a reload, which leaves the start as it was
    loadedUs: value('ReloadResult') === 'success' ? Math.max(startedUs, parseTimestamp(value('StateChangeTimestamp'))) : startedUs,
  }
}

/** Microseconds since the epoch of e.g. `Fri 2024-03-01 10:11:12.123456 UTC`; 0 for anything else. */
function parseTimestamp(text: string): number {
  const match = /(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))? UTC$/.exec(text)
  if (!match) return 0
  return Date.parse(`${match[1]}T${match[2]}Z`) * 1000 + Number((match[3] ?? '').padEnd(6, '0'))
}
