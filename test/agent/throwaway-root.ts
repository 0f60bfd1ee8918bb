/**
 * The real agent program in a root of its own: this machine's file system under an overlay in memory, in a mount namespace that goes away with
 * it. Packages and users that it makes are real and touch nothing outside. Needs root.
 */
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'
import { eventually } from '../eventually.js'
import { makeDirectory } from './agent.js'
import type { TestGateway } from './gateway.js'
import { bundleProgram } from './program.js'

/** Why there can be no such root here; false when there can. */
export function whyNoThrowawayRoot(): string | false {
  if (process.getuid?.() !== 0) return 'an overlay root needs root'
  const directory = mkdtempSync(join(tmpdir(), 'lichen-agent-root-'))
  const script = `cd ${directory} && mount -t tmpfs none . && cd ${directory} && mkdir u w r && mount -t overlay none -o lowerdir=/,upperdir=u,workdir=w r`
  const { status, stderr } = spawnSync('unshare', ['--mount', '--propagation', 'private', 'sh', '-ec', script], { encoding: 'utf8' })
  rmdirSync(directory)
  return status === 0 ? false : `no overlay file system here: ${stderr.trim()}`
}

/** Starts the agent over a copy of this machine with these files put in (path → content; a trailing `!` in the path makes it executable). */
export async function startInThrowawayRoot(t: Test, gateway: TestGateway, files: Readonly<Record<string, string>>, tmpfsSize = '1g'): Promise<void> {
  const seed = makeDirectory(t)
  const config = `gateway: ${gateway.address}\ntoken: ${gateway.token}\nname: node-1\ndataDirectory: /var/lib/lichen-agent\n`
  for (const [path, content] of Object.entries({ ...files, '/etc/lichen/agent.yaml': config })) {
    const target = join(seed, path.replace(/!$/, ''))
    mkdirSync(dirname(target), { recursive: true })
    writeFileSync(target, content)
    if (path.endsWith('!')) chmodSync(target, 0o755)
  }
  const program = await bundleProgram()
  const script = `
    d=${makeDirectory(t)}; mount -t tmpfs -o size=${tmpfsSize} none $d
    mkdir $d/u $d/w $d/r
    mount -t overlay none -o lowerdir=/,upperdir=$d/u,workdir=$d/w $d/r
    for m in proc dev sys; do mount --rbind /$m $d/r/$m; done
    cp -r --preserve=mode ${seed}/. $d/r/
    rm -rf $d/r/etc/apt/sources.list.d $d/r/var/lib/apt/lists
    cd $d/r && exec chroot . ${process.execPath} ${program} run --config /etc/lichen/agent.yaml`
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-ec', script], { stdio: ['ignore', 'ignore', 'inherit'] })
  t.teardown(async () => {
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    await gone
  })
  await eventually(t, 'the program is connected', () => gateway.hellos.length > 0, { timeoutMs: 60_000 })
}
