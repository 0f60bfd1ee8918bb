/** Putting files into a node, whether it runs or not. Paths are resolved inside the node, so that no symbolic link of it leads to the host. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream, statSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { LichenError } from '@lichen/core'
import { execInNode } from './enter.js'
import { findMachine } from './machine.js'
import type { NodeNames } from './names.js'
import { programEnvironment } from './program.js'

const fileScript = 'set -e; mkdir -p "$(dirname "$1")"; cat > "$1.new"; chmod "$2" "$1.new"; mv -T "$1.new" "$1"'
const directoryScript = 'set -e; mkdir -p "$1"; tar -x -p -C "$1"'

/** Writes `content` to the absolute path `to` of the node, with parents, atomically; `mode` are its permission bits. */
export function writeIntoNode(names: NodeNames, node: string, to: string, content: string | Uint8Array | Readable, mode: number): Promise<void> {
  return runScript(names, node, [fileScript, to, mode.toString(8)], content)
}

/**
 * Copies the host's file or directory `from` to the absolute path `to` of the node, with permissions; `to` is the copy itself, not
 * the directory to put it in. A directory is merged into one that is there.
 * @throws LAB_BAD_OPTION when `from` does not exist or `to` is not absolute.
 */
export async function copyIntoNode(names: NodeNames, node: string, from: string, to: string): Promise<void> {
  if (!to.startsWith('/')) throw new LichenError('LAB_BAD_OPTION', `copy ${from} to ${node}:${to}: the path in the node is not absolute`)
  const source = statSync(from, { throwIfNoEntry: false })
  if (!source) throw new LichenError('LAB_BAD_OPTION', `copy ${from} to ${node}:${to}: no such file or directory`)
  if (!source.isDirectory()) return writeIntoNode(names, node, to, createReadStream(from), source.mode & 0o7777)
  const tar = spawn('tar', ['-c', '-C', from, '.'], { env: programEnvironment, stdio: ['ignore', 'pipe', 'pipe'] })
  let stderr = ''
  tar.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const closed = once(tar, 'close') as Promise<[number | null]>
  await runScript(names, node, [directoryScript, to], tar.stdout)
  const [exitCode] = await closed
  if (exitCode !== 0) throw new LichenError('LAB_PROGRAM_FAILED', `tar of ${from}: exit code ${exitCode}: ${stderr.trim()}`)
}

async function runScript(names: NodeNames, node: string, script: readonly string[], input: string | Uint8Array | Readable): Promise<void> {
  const [text, ...words] = script
  const argv = ['sh', '-c', text ?? '', 'copy', ...words]
  const { exitCode, stderr } = findMachine(names).leader
    ? await execInNode(names, node, argv, { stdin: input })
    : await runInStoppedRoot(names.root, argv, input)
  if (exitCode !== 0) throw new LichenError('LAB_PROGRAM_FAILED', `copy to ${node}:${words[0]}: exit code ${exitCode}: ${stderr.trim()}`)
}

async function runInStoppedRoot(root: string, argv: readonly string[], input: string | Uint8Array | Readable): Promise<{ exitCode: number; stderr: string }> {
  const child = spawn('chroot', [root, ...argv], { env: programEnvironment, stdio: ['pipe', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdin.on('error', () => undefined)
  if (typeof input === 'string' || input instanceof Uint8Array) child.stdin.end(input)
  else input.pipe(child.stdin)
  const [code] = (await once(child, 'close')) as [number | null]
  return { exitCode: code ?? 1, stderr }
}
