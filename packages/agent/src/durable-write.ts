/**
 * The names of the agent's durable writes, for tests that kill it at each in turn. A hook is called with `NAME:before` right before the bytes are handed to
 * the kernel and with `NAME:after` right after.
 */

/** Every name that the hook is called with, without `:before` and `:after`. */
export const durableWrites = [
  'identity.write',
  'journal.intent',
  'journal.begun',
  'journal.process',
  'journal.command',
  'journal.result',
  'journal.acknowledged',
  'journal.epoch',
  'journal.flush',
  'journal.compaction',
  'spool.chunk',
  'supervisor.prepare',
  'supervisor.start',
  'supervisor.exit',
  'supervisor.forget',
] as const

/** See the file header. */
export type DurableWrite = (typeof durableWrites)[number]

/** Called at durable writes; may end the process. */
export type OnWrite = (name: `${DurableWrite}:${'before' | 'after'}`) => void
