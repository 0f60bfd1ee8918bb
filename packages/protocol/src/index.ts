export * from './generated/lichen/v1/agent.js'
export * from './order.js'
export * from './commands.js'
export * from './result.js'
