export * from './broker.js'
