/**
 * The program that keeps one machine running: `node supervisor.js <machine.json>`. It owns nothing on disk; all that it made
 * (cgroup, network link) is found and removed by `lab down` without it.
 *
 * 1. Exit code 133 of nspawn is a reboot asked for in the node, and starts the machine again; anything else ends the supervisor.
 * 2. SIGTERM or SIGINT powers the machine off, and kills it after `powerOffTimeoutMs`; a second signal kills it at once.
 * 3. It never starts a machine after it was told to stop.
 * 4. Links beside `host0` are new ones with each start of nspawn, which leaves the host's ends unconnected: they are put on the bridge each time.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { joinCgroups, openCgroup, removeCgroup } from './cgroup.js'
import { buildNspawnArguments, powerOffSignal, readMachineSpec, rebootExitCode, type MachineSpec } from './machine.js'
import { connectLinks } from './network.js'
import { programEnvironment, runProgram } from './program.js'
import { readLeader, readProcess } from './processes.js'

/** Above the 15 s that a service of the node has to stop (`base-image.ts`), so that none of them is cut off. */
const powerOffTimeoutMs = 20_000

/** A node that reboots as soon as it is up is held back, or it would take a core of the host. */
const minimumBootIntervalMs = 500

/** Well below the time that a node needs from the start of nspawn until it sends its first frame. */
const linkPollMs = 20

async function main(specPath: string): Promise<number> {
  const spec = readMachineSpec(specPath)
  let running: ChildProcess | undefined
  let isStopping = false
  const stop = (): void => {
    if (isStopping) running?.kill('SIGKILL')
    else if (running) void powerOff(running)
    isStopping = true
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  process.on('SIGHUP', () => undefined)
  for (;;) {
    const startedAt = performance.now()
    await clearRemains(spec)
    if (isStopping) return 0
    running = startNspawn(spec)
    const exited = waitForExit(running)
    await connectNewLinks(spec, running)
    const exitCode = await exited
    print(`nspawn ended with ${exitCode}`)
    if (exitCode !== rebootExitCode || isStopping) return exitCode === rebootExitCode ? 0 : exitCode
    await delay(Math.max(0, minimumBootIntervalMs - (performance.now() - startedAt)))
  }
}

/** A killed or rebooted machine leaves its cgroups and, for a moment, its links, whose names nspawn would then find taken. */
async function clearRemains(spec: MachineSpec): Promise<void> {
  removeCgroup(spec.cgroup)
  for (const veth of [spec.veth, ...spec.links.map((link) => link.veth)]) await runProgram(['ip', 'link', 'delete', veth])
}

function startNspawn(spec: MachineSpec): ChildProcess {
  const joins = openCgroup(spec.cgroup, spec.memoryBytes ?? undefined)
  const [program, ...argv] = joinCgroups(joins, buildNspawnArguments(spec))
  return spawn(program, argv, { env: programEnvironment, stdio: ['ignore', 'inherit', 'inherit'] })
}

/** Ends when all links are on the bridge, or nspawn has ended before it made them. */
async function connectNewLinks(spec: MachineSpec, nspawn: ChildProcess): Promise<void> {
  for (const { veth } of spec.links) {
    while (!existsSync(`/sys/class/net/${veth}`)) {
      if (nspawn.exitCode !== null || nspawn.signalCode !== null) return
      await delay(linkPollMs)
    }
    await connectLinks(spec.bridge, [veth]).catch((error: unknown) => print(String(error)))
  }
}

function waitForExit(child: ChildProcess): Promise<number> {
  return new Promise((settle) => {
    child.on('error', (error) => {
      print(error.message)
      settle(1)
    })
    child.on('exit', (code) => settle(code ?? 1))
  })
}

async function powerOff(nspawn: ChildProcess): Promise<void> {
  const own = nspawn.pid === undefined ? undefined : readProcess(nspawn.pid)
  const leader = own && readLeader(own)
  if (!leader) {
    nspawn.kill('SIGKILL')
    return
  }
  process.kill(leader.pid, powerOffSignal)
  await delay(powerOffTimeoutMs, undefined, { ref: false })
  nspawn.kill('SIGKILL')
}

function print(line: string): void {
  process.stdout.write(`supervisor: ${line}\n`)
}

process.exitCode = await main(process.argv[2] ?? '')
