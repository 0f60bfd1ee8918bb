/** Branded strings: an id of one kind cannot be passed where another is meant. */
declare const brand: unique symbol
type Branded<Name extends string> = string & { readonly [brand]: Name }

/** Id of a task, e.g. `t-01JD…`: sortable by time of acceptance. */
export type TaskId = Branded<'TaskId'>
/** Id of a node, its name: a DNS label, unique in a deployment of Lichen. */
export type NodeId = Branded<'NodeId'>
/** Id of an action inside its task's graph, e.g. `keystone/install@node-2`; stable between plans. */
export type ActionId = Branded<'ActionId'>

/** The same string, as the id of a task. The caller vouches for its origin (store, route parameter after validation). */
export const taskId = (text: string): TaskId => text as TaskId
/** The same string, as the id of a node. */
export const nodeId = (text: string): NodeId => text as NodeId
/** The same string, as the id of an action. */
export const actionId = (text: string): ActionId => text as ActionId
