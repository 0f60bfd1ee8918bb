/**
 * The demo: from nothing to a Keystone that answers the stock client. This file is its story; each step is in its own file.
 *
 * 1. Whatever happens, machines, network and processes are gone when `runDemo` settles. Files stay only after a run that succeeded, so that
 *    the next one has nothing to do; a run that failed or was interrupted removes those too.
 * 2. All state is in the lab's directory, so `lichen lab down --name demo` removes everything, also after SIGKILL.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openLab, type Lab, type LabView } from '@lichen/lab'
import { installAgent } from './agent-installation.js'
import { buildAgentPackage, type AgentPackage } from './agent-package.js'
import { runProgram } from './child-program.js'
import { openDemoLock, type DemoLock } from './demo-lock.js'
import { DemoFailure, NodesImpossible } from './failure.js'
import { takeKeptDeployment, writeKeptDeployment, type KeptDeployment } from './kept-deployment.js'
import { runLichen } from './lichen-program.js'
import { callApi, createJoinToken, waitForNodes, type ServerAddress } from './rest-client.js'
import { startServerProcess, type ServerProcess } from './server-process.js'
import { openSteps, type Steps } from './steps.js'

export interface DemoOptions {
  readonly checkout: string
  readonly labName: string
  /** Where labs are kept, and where their packages are. */
  readonly labDirectory: string
  readonly cacheDirectory: string
  /** Stay up after the last step until `signal`. */
  readonly isKept: boolean
  /** For the programs that are started. */
  readonly env: NodeJS.ProcessEnv
  readonly write: (text: string) => void
  readonly hasColour: boolean
  /** Of the terminal, in columns. */
  readonly width: number
  /** Ends the demo at once, wherever it is. */
  readonly signal: AbortSignal
}

/** The nodes, and the label that the plan selects each by. */
const roles = ['data', 'control'] as const

/** An agent starts in about a second; a machine that is short of everything may take a while. */
const joinTimeoutMs = 90_000

/**
 * Runs the whole demo.
 * @throws NodesImpossible where the lab cannot work, DemoFailure when a step fails, LAB_* as the lab says, Interrupted when `signal` was aborted before the end.
 */
export async function runDemo(options: DemoOptions): Promise<void> {
  const directory = join(options.labDirectory, options.labName)
  const lock = await lockDemo(options)
  const steps = openSteps({ write: options.write, hasColour: options.hasColour, now: Date.now })
  const lab = openLab({ name: options.labName, directory: options.labDirectory, cacheDirectory: options.cacheDirectory })
  const demo = { ...options, directory, lab, steps }
  const running: { server?: ServerProcess } = {}
  let kept: KeptDeployment | undefined
  try {
    kept = await playDemo(demo, running)
  } finally {
    await endDemo(demo, running.server, kept)
    await lock.close()
  }
}

/** Removes what the last run left on disk. @throws DemoFailure while a demo runs. */
export async function cleanDemo(options: Pick<DemoOptions, 'labName' | 'labDirectory' | 'cacheDirectory'>): Promise<void> {
  const lock = await lockDemo(options)
  await openLab({ name: options.labName, directory: options.labDirectory, cacheDirectory: options.cacheDirectory }).down()
  await lock.close()
}

async function lockDemo(options: Pick<DemoOptions, 'labName' | 'labDirectory'>): Promise<DemoLock> {
  const lock = await openDemoLock(join(options.labDirectory, options.labName))
  if (!lock) throw new DemoFailure('another demo is running on this machine; end it with Ctrl-C first')
  return lock
}

interface Demo extends DemoOptions {
  readonly directory: string
  readonly lab: Lab
  readonly steps: Steps
}

async function playDemo(demo: Demo, running: { server?: ServerProcess }): Promise<KeptDeployment> {
  const { steps, lab, signal } = demo
  const former = takeKeptDeployment(demo.directory, Date.now())
  if (!former && existsSync(demo.directory)) await steps.run('removing what an interrupted run left', () => lab.down())
  const [view, agent] = await steps.run(former ? 'booting the two nodes of the last run' : 'two Debian nodes, and the package of the agent', () =>
    // the package takes a processor, the nodes mostly wait for the network
    Promise.all([raiseNodes(demo), buildAgentPackage(demo.checkout, signal)]),
  )
  for (const node of view.nodes) steps.note(`${node.name.padEnd(8)} ${node.address}`)
  const server = await steps.run('the server: api, engine, embedded broker and SQLite in one process', () => startServer(demo, view.gateway, former))
  running.server = server
  steps.note(`API ${server.apiUrl}, gateway for nodes ${server.gatewayAddress}`)
  await steps.run(`agents on ${roles.join(' and ')} join`, () => joinNodes(demo, server, agent, former))
  const changed = await applyPlan(demo, server, 'lichen apply examples/keystone.yaml')
  await showOpenStack(demo)
  if (changed > 0 && (await applyPlan(demo, server, 'lichen apply examples/keystone.yaml, once more')) > 0) {
    throw new DemoFailure('the second apply of the same plan changed something')
  }
  steps.note('nothing had to change: the nodes are as the plan says')
  steps.printTimes()
  const kept = { version: 1, gatewayPort: portOf(server.gatewayAddress), agentDigest: agent.digest, keptAt: Date.now() } as const
  if (demo.isKept) await stay(demo, server, kept)
  return kept
}

/** What the lab program says where the machine is not made for nodes, whatever is tried. */
const impossibleNodes = /^lab: (?:LAB_NOT_ROOT|LAB_NOT_DEBIAN|LAB_TOOLS_MISSING): (.*)$/m

/** In a process of its own, because booting and bootstrapping cannot be stopped half-way otherwise. */
async function raiseNodes(demo: Demo): Promise<LabView> {
  const program = fileURLToPath(import.meta.resolve('@lichen/lab/main'))
  const { exitCode, output } = await runProgram(
    [process.execPath, program, '--name', demo.labName, '--dir', demo.labDirectory, '--cache', demo.cacheDirectory, 'up', ...roles],
    { env: demo.env, signal: demo.signal, onLine: (line) => !line.startsWith('lab ') && !line.startsWith('  ') && demo.steps.note(line) },
  )
  const impossible = impossibleNodes.exec(output)?.[1]
  if (exitCode !== 0) throw impossible === undefined ? new DemoFailure('the nodes could not be made', output) : new NodesImpossible(impossible)
  const view = demo.lab.list()
  if (!view) throw new DemoFailure('the lab is gone: was `lichen lab down` run beside the demo?')
  return view
}

/** What the work gives, or the reason of the signal at once: the work then ends with the nodes. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

/** On the port of the last run where that is free: the agents know it. */
async function startServer(demo: Demo, gatewayHost: string, former: KeptDeployment | undefined): Promise<ServerProcess> {
  const start = (gatewayPort: number) =>
    startServerProcess({ dataDirectory: join(demo.directory, 'server'), catalogDirectory: join(demo.checkout, 'catalog'), gatewayHost, gatewayPort, env: demo.env, signal: demo.signal })
  if (former) {
    const server = await start(former.gatewayPort).catch((error: unknown) => {
      if (error instanceof DemoFailure && error.output.includes('SERVER_PORT_TAKEN')) return undefined
      throw error
    })
    if (server) return server
  }
  return start(0)
}

async function joinNodes(demo: Demo, server: ServerProcess, agent: AgentPackage, former: KeptDeployment | undefined): Promise<void> {
  const isInstalled = former?.agentDigest === agent.digest && former.gatewayPort === portOf(server.gatewayAddress)
  if (!isInstalled) {
    const joinToken = await createJoinToken(server, roles.length)
    const installations = roles.map((role) => installAgent(demo.lab, role, { packagePath: agent.path, gateway: server.gatewayAddress, joinToken, labels: { role } }))
    await untilAborted(Promise.all(installations), demo.signal)
  }
  await waitForNodes(server, roles, joinTimeoutMs, demo.signal)
}

/** Applies the plan as a user does, with the live view and the task log; gives the number of actions that changed something. */
async function applyPlan(demo: Demo, server: ServerAddress, title: string): Promise<number> {
  const { exitCode } = await demo.steps.run(title, () =>
    runLichen(server, ['apply', '--logs', join(demo.checkout, 'examples/keystone.yaml')], { env: demo.env, isShown: true, signal: demo.signal }),
  )
  if (exitCode !== 0) throw new DemoFailure(`lichen apply: exit code ${exitCode}`)
  return countChanges(server)
}

/** The stock client on the control node. */
async function showOpenStack(demo: Demo): Promise<void> {
  for (const command of ['openstack token issue', 'openstack endpoint list']) {
    await demo.steps.run(`on control: ${command}`, async () => {
      const { exitCode, stdout, stderr } = await untilAborted(demo.lab.exec('control', ['bash', '-c', `. /root/openrc && exec ${command}`], { timeoutMs: 120_000, env: { CLIFF_MAX_TERM_WIDTH: String(demo.width) } }), demo.signal)
      demo.write(stdout)
      if (exitCode !== 0) throw new DemoFailure(`${command}: exit code ${exitCode}`, stderr)
    })
  }
}

/** How many actions of the newest task changed something on their node. */
export async function countChanges(server: ServerAddress): Promise<number> {
  const [task] = (await callApi<{ readonly items: readonly { readonly id: string }[] }>(server, 'GET', '/v1/tasks?limit=1')).items
  if (!task) throw new DemoFailure('the server has no task')
  const { items } = await callApi<{ readonly items: readonly { readonly result: { readonly changed: boolean } | null }[] }>(server, 'GET', `/v1/tasks/${task.id}/actions?limit=1000`)
  return items.filter((action) => action.result?.changed).length
}

/** Prints how to look around, and waits until it is interrupted. */
async function stay(demo: Demo, server: ServerProcess, kept: KeptDeployment): Promise<void> {
  // a SIGKILL from here on leaves a complete deployment
  writeKeptDeployment(demo.directory, kept)
  const tokenPath = join(demo.directory, 'server/admin.token')
  demo.write(
    [
      '',
      'It stays up until Ctrl-C. In another terminal, from the checkout:',
      '',
      `  export LICHEN_URL=${server.apiUrl} LICHEN_TOKEN=$(cat ${tokenPath})`,
      '  npx lichen tasks',
      '  npx lichen logs latest',
      '  npx lichen check examples/keystone.yaml',
      `  npx lichen lab --name ${demo.labName}${demo.labDirectory === defaultLabDirectory ? '' : ` --dir ${demo.labDirectory}`} shell control`,
      '',
      `  API            ${server.apiUrl}/docs`,
      `  Keystone       http://${demo.lab.node('control').address}:5000/v3`,
      `  token          ${tokenPath}`,
      `  server's log   ${server.logPath}`,
      '',
    ].join('\n'),
  )
  await new Promise<void>((resolve) => demo.signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** Where `lichen lab` keeps labs when nothing else is said. */
export const defaultLabDirectory = '/var/lib/lichen-lab'

/** Everything gone; the files too, unless there is a complete deployment to keep. */
async function endDemo(demo: Demo, server: ServerProcess | undefined, kept: KeptDeployment | undefined): Promise<void> {
  demo.steps.say('')
  await demo.steps.run(kept ? 'stopping nodes and server' : 'cleaning up', async () => {
    await server?.stop()
    if (!kept) return demo.lab.down()
    await demo.lab.halt()
    writeKeptDeployment(demo.directory, kept)
  })
  if (kept) demo.steps.note(`the nodes' disks stay in ${demo.directory} for the next run; npm run demo -- --clean removes them`)
}

const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1))
