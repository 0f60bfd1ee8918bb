export { type Agent, type AgentOptions, agentVersion, joinOnce, startAgent } from './agent.js'
export type { Log } from './log.js'
export { readFacts } from './facts/facts.js'
