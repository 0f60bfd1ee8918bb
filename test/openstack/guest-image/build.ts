/**
 * The image that guests of OpenStack boot from in tests: built once for a recipe, kept in the lab's cache directory.
 *
 * 1. It appears under its name only when it is complete (rename), and is never changed afterwards: another recipe has another name.
 * 2. One builder at a time (lock). What one leaves that dies, a running node among it, the next one removes.
 * 3. All of it is made in a node of a lab, whose apt reaches the archive: the host needs what a lab needs, and no way out of its own.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { LichenError } from '@lichen/core'
import { openLab, openLock, requireSpace, runRequired, type Lab } from '@lichen/lab'
import { makeGuestFiles } from './guest-files.js'
import { guestImageName } from './recipe.js'

export interface GuestImageOptions {
  /** The lab's. */
  readonly cacheDirectory: string
  /** Gets a line for each step that takes time. */
  readonly log?: (line: string) => void
}

export interface GuestImage {
  readonly directory: string
  /** A whole disk of one ext4, raw and sparse: no partition, no boot loader. */
  readonly diskPath: string
  /** For Glance's `aki`. */
  readonly kernelPath: string
  /** For Glance's `ari`. */
  readonly initrdPath: string
}

/** Properties of the image in Glance, beside `kernel_id` and `ramdisk_id`. */
export const guestImageProperties = {
  // a guest without a source of entropy waits for it at its first key
  hw_rng_model: 'virtio',
  // norandmaps: qemu translates a library once when all programs have it at the same address
  os_command_line: 'root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off norandmaps',
} as const

/** Measured: 150 MB of the node, 450 of the root, as much again of the image. */
const buildSizeBytes = 1.5e9
const lockTimeoutMs = 1_800_000

const files = { disk: 'disk.raw', kernel: 'vmlinuz', initrd: 'initrd' }

/**
 * The image, built first when it is not there.
 * @throws LAB_NO_SPACE, LAB_BUSY after half an hour behind another builder, LAB_PROGRAM_FAILED, and whatever making a lab throws.
 */
export async function buildGuestImage(options: GuestImageOptions): Promise<GuestImage> {
  const cacheDirectory = resolve(options.cacheDirectory)
  const log = options.log ?? (() => undefined)
  const directory = join(cacheDirectory, guestImageName())
  if (existsSync(directory)) return read(directory)
  mkdirSync(cacheDirectory, { recursive: true })
  const lockPath = join(cacheDirectory, 'guest-image.lock')
  const lock = (await openLock(lockPath, 1000)) ?? (log('waiting for another builder of the guest image'), await openLock(lockPath, lockTimeoutMs))
  if (!lock) throw new LichenError('LAB_BUSY', `another program has been building a guest image in ${cacheDirectory} for half an hour`)
  try {
    if (!existsSync(directory)) await build(directory, cacheDirectory, log)
  } finally {
    await lock.close({ remove: true })
  }
  return read(directory)
}

async function build(directory: string, cacheDirectory: string, log: (line: string) => void): Promise<void> {
  const open = (temporary: string): Lab => openLab({ name: 'guest-image', directory: join(temporary, 'lab'), cacheDirectory, log })
  const remove = async (temporary: string): Promise<void> => {
    await open(temporary).down()
    rmSync(temporary, { recursive: true, force: true })
  }
  // only the one who holds the lock comes here, so nobody works in these
  for (const entry of readdirSync(cacheDirectory)) if (/^guest-image-\w+\.building-/.test(entry)) await remove(join(cacheDirectory, entry))
  requireSpace(cacheDirectory, buildSizeBytes, 'building the guest image')
  const temporary = `${directory}.building-${process.pid}`
  try {
    const output = join(temporary, 'output')
    mkdirSync(output, { recursive: true })
    await fill(open(temporary), output, log)
    renameSync(output, directory)
  } finally {
    await remove(temporary)
  }
}

async function fill(lab: Lab, output: string, log: (line: string) => void): Promise<void> {
  const node = 'builder'
  await lab.up({ nodes: [node] })
  const made = await makeGuestFiles(lab, node, log)
  for (const [name, file] of Object.entries(files)) await runRequired(['mv', join(lab.node(node).root, made[name as keyof typeof files]), join(output, file)])
}

function read(directory: string): GuestImage {
  return { directory, diskPath: join(directory, files.disk), kernelPath: join(directory, files.kernel), initrdPath: join(directory, files.initrd) }
}
