export * from './generated/lichen/v1/agent.js'
