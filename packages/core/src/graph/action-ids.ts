import { actionId, type ActionId, type NodeId } from '../ids.js'

/** `keystone/install@node-2`; for a per-relation action `db/grant:keystone.database@node-1`. Stable between plannings. */
export const actionIdOf = (component: string, action: string, node: NodeId): ActionId => actionId(`${component}/${action}@${node}`)
