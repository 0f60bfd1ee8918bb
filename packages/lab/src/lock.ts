/**
 * A lock between processes on a file, held by a child that waits for the end of its input: when the owner closes it or dies in any way,
 * the child reads end of file and the kernel drops the lock. Node.js has no flock(2) of its own.
 *
 * 1. The file may be removed by the one who holds the lock (`close({ remove: true })`): whoever waited on the removed file starts
 *    over with a new one, so two owners are never possible.
 */
import { spawn } from 'node:child_process'
import { unlinkSync } from 'node:fs'
import { programEnvironment } from './program.js'

export interface Lock {
  /** Gives the lock back; `remove` deletes its file first. */
  close(options?: { readonly remove?: boolean }): Promise<void>
}

const holder = `
while :; do
  exec 9>>"$1" || exit 74
  flock -w "$2" 9 || exit 75
  [ "$1" -ef /proc/self/fd/9 ] && break
done
echo held
exec cat >/dev/null`

/** The lock on `path` (made when missing), or undefined when another process kept it for `timeoutMs`. */
export function openLock(path: string, timeoutMs: number): Promise<Lock | undefined> {
  return new Promise((settle, fail) => {
    // a session of its own: Ctrl-C in the terminal must not drop the lock while the owner is still cleaning up
    const child = spawn('sh', ['-c', holder, 'lichen-lab-lock', path, String(Math.ceil(timeoutMs / 1000))], {
      env: programEnvironment,
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const closed = new Promise<void>((done) => child.on('close', () => done()))
    child.on('error', fail)
    child.on('close', (code) => (code === 75 ? settle(undefined) : fail(new Error(`lock ${path}: ${stderr.trim() || `exit code ${code}`}`))))
    child.stdout.once('data', () =>
      settle({
        close: async (options = {}) => {
          if (options.remove) unlinkSync(path)
          child.stdin.end()
          await closed
        },
      }),
    )
  })
}
