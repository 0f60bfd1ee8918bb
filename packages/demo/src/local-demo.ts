/**
 * The small demo, for a machine where no nodes can be made: the same server and the same agent, the agent confined to a temporary directory, and
 * `examples/hello.yaml`. Everything it makes is in that directory, which is removed at the end.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ChildProcess } from 'node:child_process'
import { startProgram, stopProgram } from './child-program.js'
import type { DemoOptions } from './demo.js'
import { DemoFailure } from './failure.js'
import { runLichen } from './lichen-program.js'
import { waitForNodes } from './rest-client.js'
import { startServerProcess, type ServerProcess } from './server-process.js'
import { openSteps } from './steps.js'

/** The agent's own limit for a polite stop is shorter. */
const agentStopTimeoutMs = 8_000

/** Runs the small demo. @throws DemoFailure when a step fails, Interrupted when `signal` was aborted. */
export async function runLocalDemo(options: Pick<DemoOptions, 'checkout' | 'env' | 'write' | 'hasColour' | 'signal'>): Promise<void> {
  const steps = openSteps({ write: options.write, hasColour: options.hasColour, now: Date.now })
  const directory = mkdtempSync(join(tmpdir(), 'lichen-demo-'))
  let server: ServerProcess | undefined
  let agent: ChildProcess | undefined
  try {
    server = await steps.run('the server: api, engine, embedded broker and SQLite in one process', () =>
      startServerProcess({ dataDirectory: join(directory, 'server'), catalogDirectory: join(options.checkout, 'catalog'), gatewayHost: '127.0.0.1', gatewayPort: 0, env: options.env, signal: options.signal }),
    )
    const running = server
    await steps.run(`an agent that may change nothing outside ${join(directory, 'node')}`, async () => {
      agent = startLocalAgent(running, join(directory, 'node'), options.env)
      await waitForNodes(running, ['local'], 30_000, options.signal)
    })
    for (const title of ['lichen apply examples/hello.yaml', 'lichen apply examples/hello.yaml, once more']) {
      await steps.run(title, async () => {
        const { exitCode } = await runLichen(running, ['apply', '--logs', join(options.checkout, 'examples/hello.yaml')], { env: options.env, isShown: true, signal: options.signal })
        if (exitCode !== 0) throw new DemoFailure(`lichen apply: exit code ${exitCode}`)
      })
    }
    steps.printTimes()
  } finally {
    if (agent) await stopProgram(agent, agentStopTimeoutMs)
    await server?.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

function startLocalAgent(server: ServerProcess, directory: string, env: NodeJS.ProcessEnv): ChildProcess {
  const program = fileURLToPath(import.meta.resolve('@lichen/cli/main'))
  return startProgram([process.execPath, program, 'agent', '--local', directory], { stdio: 'ignore', env: { ...env, LICHEN_URL: server.apiUrl, LICHEN_TOKEN: server.adminToken } })
}
