/** Small file systems of their own, to be filled. */
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { makeDirectory } from './agent.js'

/** For `skip`: false when file systems can be mounted. */
export const skip = process.getuid?.() === 0 ? false : 'mounting a small file system needs root'

/** A file system of this size, unmounted with the test. */
export function mountSmall(t: Test, size: string): string {
  const directory = makeDirectory(t)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'none', directory], { encoding: 'utf8' })
  if (mounted.status !== 0) throw new Error(mounted.stderr)
  t.teardown(() => void spawnSync('umount', ['--lazy', directory]))
  return directory
}

/** Fills the disk to its last byte, as a runaway program would. */
export function fill(directory: string): () => void {
  const path = join(directory, 'filler')
  const fd = openSync(path, 'w')
  for (let size = 64 * 1024; size >= 1; size = Math.floor(size / 2)) {
    try {
      for (;;) writeSync(fd, Buffer.alloc(size))
    } catch {
      // full for this size
    }
  }
  closeSync(fd)
  return () => rmSync(path)
}
