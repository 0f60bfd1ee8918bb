import { actionId, type ActionId, type NodeId } from '../ids.js'

/** Component of actions that no component of a plan has: those that look after unchanged ones. A plan cannot use the name (PLAN_RESERVED_NAME). */
export const reservedComponent = 'lichen'

/** `keystone/install@node-2`; for a check of a wave `etcd/healthy:wave-1@node-1`. Stable between plannings. */
export const actionIdOf = (component: string, action: string, node: NodeId): ActionId => actionId(`${component}/${action}@${node}`)

/** The action of a provider's node that prepares the provider for one consumer: `db/grant:keystone.database@node-1`. */
export const relationActionIdOf = (provider: string, action: string, consumer: { readonly component: string; readonly relation: string }, node: NodeId): ActionId =>
  actionIdOf(provider, `${action}:${consumer.component}.${consumer.relation}`, node)

/** `etcd/wave-1`, `etcd/approval`, `etcd/complete`, `etcd/all-configure`. Never the id of an action, which has an `@`; nor of another gate, because names of actions have no `-`. */
export const gateIdOf = (component: string, name: string): ActionId => actionId(`${component}/${name}`)
