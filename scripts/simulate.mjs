// Makes one file of the simulator (simulation/main.ts) and of all that it runs, and starts it. One file, because what the TypeScript loader does to keep the names of
// functions costs a quarter of the time: it sets one on every closure that is made. The code that runs is the same, and so is every transcript (test/simulation/determinism.test.ts).
import { spawnSync } from 'node:child_process'
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { build } from 'esbuild'

const root = resolve(import.meta.dirname, '..')
const program = resolve(root, '.test-build/simulator/main.mjs')
const { outputFiles } = await build({
  absWorkingDir: root, write: false, entryPoints: ['simulation/main.ts'], outfile: program, bundle: true, platform: 'node', format: 'esm', target: 'node20', logLevel: 'warning',
  // Stays outside because the simulator knows it by its path (simulation/real.ts); the others have parts that are no JavaScript, or may be missing.
  external: ['liquidjs', 'sqlite3', 'pg-native'],
  // Packages of the older module system ask for what comes with Node.js by `require`.
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
})
// In one step: another one may be starting, or about to start its other processes.
mkdirSync(dirname(program), { recursive: true })
writeFileSync(`${program}.${process.pid}`, outputFiles[0].contents)
renameSync(`${program}.${process.pid}`, program)
// For much code that is each a little warm: V8 inlines less, so that compiling costs less, lets objects that live as long as a seed die young, and does all of it on the
// one thread, for one process is one core's worth (`--jobs`). Together a sixth of the processor time of 400 seeds.
const flags = ['--single-threaded', '--max-inlined-bytecode-size-cumulative=100', '--min-semi-space-size=32', '--max-semi-space-size=32']
// Flags of this process are given on: `node --cpu-prof scripts/simulate.mjs` tells where the time goes.
const child = spawnSync(process.execPath, [...flags, ...process.execArgv, program, ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' })
process.exit(child.status ?? 1)
