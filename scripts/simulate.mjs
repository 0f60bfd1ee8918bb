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
const child = spawnSync(process.execPath, [program, ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' })
process.exit(child.status ?? 1)
