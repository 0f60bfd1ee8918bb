import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

/** What the API measures of itself. */
export interface ApiMetrics {
  /** Seconds from a request's first byte to its answer's last, by route. Streams are not in it. */
  readonly requestSeconds: Histogram<'method' | 'route' | 'code'>
  readonly tasksAccepted: Counter<'kind'>
  readonly openStreams: Gauge
  readonly registry: Registry
}

/** The metrics of one API, registered in `registry`; a registry serves one API. */
export const buildApiMetrics = (registry: Registry): ApiMetrics => ({
  requestSeconds: new Histogram({
    name: 'lichen_api_request_seconds',
    help: 'Duration of HTTP requests, without streams.',
    labelNames: ['method', 'route', 'code'],
    // Around the goal of 20 ms for POST /tasks.
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5],
    registers: [registry],
  }),
  tasksAccepted: new Counter({ name: 'lichen_api_tasks_accepted_total', help: 'Tasks accepted, by kind.', labelNames: ['kind'], registers: [registry] }),
  openStreams: new Gauge({ name: 'lichen_api_open_streams', help: 'Log and event streams that are open.', registers: [registry] }),
  registry,
})
