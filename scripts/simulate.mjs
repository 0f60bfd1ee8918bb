// Starts the simulator (simulation/main.ts) with the TypeScript loader.
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const child = spawnSync(process.execPath, ['--import=tsx', 'simulation/main.ts', ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' })
process.exit(child.status ?? 1)
