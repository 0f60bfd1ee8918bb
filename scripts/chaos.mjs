// Starts the chaos run (chaos/main.ts) with the TypeScript loader. Signals reach it: it clears up itself.
import { spawn } from 'node:child_process'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const child = spawn(process.execPath, ['--import=tsx', 'chaos/main.ts', ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' })
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.on('exit', (code) => process.exit(code ?? 1))
