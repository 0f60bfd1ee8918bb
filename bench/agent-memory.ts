/** Resident memory of the agent as users install it (the bundle of the package), joined and idle. */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { System } from './system.js'

/** RSS and PSS in MiB after `idleS` seconds without work; undefined when the package has not been built. */
export async function measureAgentMemory(system: System, directory: string, idleS: number): Promise<{ rssMiB: number; pssMiB: number } | undefined> {
  const launcher = resolve(import.meta.dirname, '../build/agent-root/usr/bin/lichen-agent')
  if (!existsSync(launcher)) return undefined
  const home = join(directory, 'idle-agent')
  mkdirSync(home, { recursive: true })
  const config = join(home, 'agent.yaml')
  writeFileSync(config, `gateway: ${system.gateway}\ntoken: ${await system.makeJoinToken(1)}\nname: idle-agent\ndataDirectory: ${home}/data\n`)
  const child = spawn(launcher, ['run', '--config', config], { stdio: 'ignore' })
  try {
    for (let tries = 0; tries < 100; tries++) {
      const reply = await system.request('GET', '/v1/nodes/idle-agent')
      if (reply.code === 200 && reply.body.state === 'ready') break
      await new Promise((done) => setTimeout(done, 100))
    }
    await new Promise((done) => setTimeout(done, idleS * 1000))
    const rollup = readFileSync(`/proc/${child.pid}/smaps_rollup`, 'utf8')
    const read = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(rollup)![1]) / 1024
    return { rssMiB: read('Rss'), pssMiB: read('Pss') }
  } finally {
    child.kill('SIGTERM')
    await new Promise((done) => child.once('exit', done))
  }
}
