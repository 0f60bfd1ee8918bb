/** A private PostgreSQL and RabbitMQ for a measurement, as the tests have them. */
import type { Test } from 'tap'
import { type PrivatePostgres, startPostgres } from '../test/postgres.js'
import { startRabbit } from '../test/rabbitmq.js'
import type { RabbitNode } from '../test/rabbitmq-node.js'

/** Collects what is to be undone, for functions that take a test. */
export interface Scope {
  readonly test: Test
  /** Undoes everything, newest first. */
  end(): Promise<void>
}

/** Nothing to undo yet. */
export function openScope(): Scope {
  const undo: (() => unknown)[] = []
  const test = { teardown: (stop: () => unknown) => undo.unshift(stop), comment: () => undefined, pass: () => true } as unknown as Test
  return {
    test,
    async end() {
      for (const stop of undo.splice(0)) await stop()
    },
  }
}

/** PostgreSQL with a cache of a usual size and every commit flushed; undefined when there is none to run here. */
export const startBenchPostgres = ({ test }: Scope): Promise<PrivatePostgres | undefined> => startPostgres(test, { settings: { shared_buffers: '256MB', max_wal_size: '2GB' } })

/** RabbitMQ; undefined when there is none to run here. */
export const startBenchRabbit = ({ test }: Scope): Promise<RabbitNode | undefined> => startRabbit(test)
