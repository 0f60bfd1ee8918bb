import type { Catalog } from '@lichen/core'
import type { Broker } from '@lichen/broker'
import type { Store } from '@lichen/store'
import type { Announcer } from './announcer.js'
import type { ApiLog } from './api-log.js'
import type { Audit } from './auth/audit.js'
import type { Authenticator } from './auth/authenticate.js'
import type { ApiLimits } from './limits.js'
import type { ApiMetrics } from './metrics/api-metrics.js'
import type { Unseal } from './outputs/deployment-outputs.js'
import type { NodeList } from './planning/node-list.js'
import type { OpenStreams } from './stream/open-streams.js'
import type { TaskViews } from './tail/task-views.js'

/** What every operation is given: the ports, and what one instance of the API keeps. */
export interface Context {
  readonly store: Store
  readonly broker: Broker
  readonly announcer: Announcer
  readonly catalog: Catalog
  /** Opens what the store keeps sealed. */
  readonly unseal: Unseal
  /** SHA-256 of the certificate authority's certificate, hex: part of join tokens. */
  readonly caDigest: string
  /** `host:port` at which nodes reach the gateway. */
  readonly gatewayAddress: string
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly log: ApiLog
  readonly version: string
  readonly limits: ApiLimits
  readonly metrics: ApiMetrics
  readonly authenticator: Authenticator
  readonly audit: Audit
  readonly nodes: NodeList
  readonly views: TaskViews
  readonly streams: OpenStreams
}
