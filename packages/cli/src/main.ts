/** The `lichen` program. */
import { readFileSync } from 'node:fs'
import { runCli } from './program.js'
import { openTerminal } from './terminal.js'

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

// A reader that has seen enough (`lichen logs | head`) closes the pipe; that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

process.exitCode = await runCli({
  args: process.argv.slice(2),
  env: process.env,
  directory: process.cwd(),
  terminal: openTerminal(process.stdin, process.stdout, process.stderr, process.env),
  stdout: process.stdout,
  version,
})
