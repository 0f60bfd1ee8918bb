/** What the engine counts, for Prometheus. Names are public. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

export interface EngineMetrics {
  readonly tasksOwned: Gauge
  readonly sessions: Gauge
  readonly actionsEnded: Counter<'outcome'>
  readonly tasksEnded: Counter<'outcome'>
  readonly ordersSent: Counter
  /** Seconds from the result or event that made an action ready to its order on the stream. */
  readonly dispatchSeconds: Histogram
  /** Seconds from the order on the stream to its result. */
  readonly attemptSeconds: Histogram
  readonly appendSeconds: Histogram
  readonly logBytes: Counter
  readonly joins: Counter<'answer'>
}

/** Metrics registered in `registry`, which must not have them yet. */
export function buildMetrics(registry: Registry): EngineMetrics {
  const registers = [registry]
  const fast = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5]
  return {
    tasksOwned: new Gauge({ name: 'lichen_tasks_owned', help: 'Tasks that this engine drives.', registers }),
    sessions: new Gauge({ name: 'lichen_agent_sessions', help: 'Agents connected to this engine.', registers }),
    actionsEnded: new Counter({ name: 'lichen_actions_ended_total', help: 'Attempts recorded as ended, by outcome.', labelNames: ['outcome'], registers }),
    tasksEnded: new Counter({ name: 'lichen_tasks_ended_total', help: 'Tasks recorded as ended, by outcome.', labelNames: ['outcome'], registers }),
    ordersSent: new Counter({ name: 'lichen_orders_sent_total', help: 'Orders put on a stream, repeats included.', registers }),
    dispatchSeconds: new Histogram({ name: 'lichen_dispatch_seconds', help: 'From the decision to send to the order on the stream, durable intent included.', buckets: fast, registers }),
    attemptSeconds: new Histogram({ name: 'lichen_attempt_seconds', help: 'From the order on the stream to its recorded result.', buckets: [0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600, 3600], registers }),
    appendSeconds: new Histogram({ name: 'lichen_append_seconds', help: 'Time to append events durably.', buckets: fast, registers }),
    logBytes: new Counter({ name: 'lichen_log_bytes_total', help: 'Bytes of task logs stored.', registers }),
    joins: new Counter({ name: 'lichen_joins_total', help: 'Joins and renewals asked for, by answer (ok or the code).', labelNames: ['answer'], registers }),
  }
}
