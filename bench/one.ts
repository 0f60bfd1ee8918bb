import { measureThroughput, measureLatency } from './actions.js'
import { measureLogRate } from './log-path.js'
import { measureSubmit } from './submit.js'
import { makeDirectory } from './floors.js'
import { median, quantile } from './quantile.js'
import { startSystem } from './system.js'
const system = await startSystem(makeDirectory())
const what = process.argv[2]
try {
  console.time('run')
  if (what === 'actions') { await system.startAgents('many', 50); console.log(await measureThroughput(system, 'many', 50, 100, 3)) }
  if (what === 'latency') { await system.startAgents('one', 1); const l = await measureLatency(system, 'one', 300); console.log(median(l), quantile(l, 0.99)) }
  if (what === 'log') { await system.startAgents('four', 4); console.log(await measureLogRate(system, 'four', 4, 30)) }
  if (what === 'submit') { await system.startAgents('one', 1); const l = await measureSubmit(system, 'one', 500, 5); console.log(median(l), quantile(l, 0.99)) }
} finally { console.timeEnd('run'); console.time('stop'); await system.stop(); console.timeEnd('stop') }
