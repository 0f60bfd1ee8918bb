/** Image files on the node: whether they are what they are said to be, and their digests. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import type { Deadline } from '../../run/deadline.js'
import { ApiFailure } from './api-failure.js'

/** Where a format's mark stands. VMDK: sparse extents, or a descriptor of text. */
const marks: Readonly<Record<string, readonly { readonly at: number; readonly bytes: string }[]>> = {
  qcow2: [{ at: 0, bytes: 'QFI\u00fb' }],
  vmdk: [{ at: 0, bytes: 'KDMV' }, { at: 0, bytes: '# Disk DescriptorFile' }],
  vdi: [{ at: 64, bytes: '\u007f\u0010\u00da\u00be' }],
  vhdx: [{ at: 0, bytes: 'vhdxfile' }],
  vhd: [{ at: 0, bytes: 'conectix' }],
  iso: [{ at: 32_769, bytes: 'CD001' }],
}
/** What a download may turn out to be: packed, or an error page. A kernel or a ramdisk may be packed. */
const packed: Readonly<Record<string, string>> = { gzip: '\u001f\u008b', xz: '\u00fd7zXZ\u0000', zstd: '(\u00b5/\u00fd', bzip2: 'BZh', zip: 'PK\u0003\u0004' }
const page = /^\s*<(!doctype|html|\?xml)/i
/** Covers the mark of an ISO, the last one. */
const headBytes = 33 * 1024
/** A VHD of fixed size has its mark in a footer. */
const footerBytes = 512

/** Its size. @throws COMMAND_OPENSTACK_IMAGE when it is not there, or is no image of this format (glance takes whatever it gets, and servers fail to boot from it). */
export async function checkImageFile(path: string, diskFormat: string): Promise<{ readonly sizeBytes: number }> {
  const stats = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new ApiFailure('COMMAND_OPENSTACK_IMAGE', `${path}: ${error.code === 'ENOENT' ? 'there is no such file' : error.message}`)
  })
  const problem = stats.isFile() ? findProblem(await readEnds(path, stats.size), stats.size, diskFormat) : 'it is no regular file'
  if (problem !== undefined) throw new ApiFailure('COMMAND_OPENSTACK_IMAGE', `${path}: no image of format ${diskFormat}: ${problem}; nothing was uploaded`)
  return { sizeBytes: stats.size }
}

interface Ends {
  readonly head: string
  readonly foot: string
}

async function readEnds(path: string, sizeBytes: number): Promise<Ends> {
  const handle = await open(path, 'r')
  try {
    const read = async (size: number, position: number): Promise<string> => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(size), 0, size, position)
      return buffer.toString('latin1', 0, bytesRead)
    }
    return { head: await read(headBytes, 0), foot: await read(footerBytes, Math.max(0, sizeBytes - footerBytes)) }
  } finally {
    await handle.close()
  }
}

function findProblem({ head, foot }: Ends, sizeBytes: number, diskFormat: string): string | undefined {
  if (sizeBytes === 0) return 'it is empty'
  if (page.test(head)) return 'it is a page of HTML or XML'
  const has = (format: string): boolean => marks[format]!.some(({ at, bytes }) => head.startsWith(bytes, at)) || (format === 'vhd' && foot.startsWith('conectix'))
  if (['aki', 'ari'].includes(diskFormat)) return undefined
  if (marks[diskFormat]) return has(diskFormat) ? undefined : `it ${describe(head, has)}`
  // An installation medium is both: a bootable raw disk that is an ISO too.
  const isOther = Object.keys(marks).some((format) => format !== 'iso' && has(format)) || findPacked(head) !== undefined
  return isOther ? `it ${describe(head, has)}` : undefined
}

const findPacked = (head: string): string | undefined => Object.keys(packed).find((name) => head.startsWith(packed[name]!))

function describe(head: string, has: (format: string) => boolean): string {
  const format = Object.keys(marks).find(has)
  const archive = findPacked(head)
  if (format !== undefined) return `is of format ${format}`
  return archive === undefined ? `begins with ${JSON.stringify(head.slice(0, 8))}` : `is packed with ${archive}`
}

/** Digests of files as they were, by all that tells that they are the same still. */
const known = new Map<string, string>()
const maxKnown = 256
/** A file that changed so shortly before it was read may change again without another change time: the kernel's clock for those has ticks. */
const settledMs = 1_000

/** The digest of the file, in hexadecimal digits. One that has not changed since it was last read is not read again: images are gigabytes. @throws when the deadline ends. */
export async function digestFile(path: string, algorithm: string, deadline: Deadline): Promise<string> {
  const { key, changedMs } = await identify(path, algorithm)
  const found = known.get(key)
  if (found !== undefined) return found
  const isSettled = deadline.clock.now() - changedMs > settledMs
  const digest = await readDigest(path, algorithm, deadline)
  if (!isSettled || (await identify(path, algorithm)).key !== key) return digest
  if (known.size >= maxKnown) known.delete(known.keys().next().value!)
  known.set(key, digest)
  return digest
}

/** The change time of a file cannot be set: whoever writes to it, or puts another one there, makes another key. */
async function identify(path: string, algorithm: string): Promise<{ readonly key: string; readonly changedMs: number }> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
  return { key: [algorithm, dev, ino, size, mtimeNs, ctimeNs].join(' '), changedMs: Number(ctimeNs / 1_000_000n) }
}

async function readDigest(path: string, algorithm: string, deadline: Deadline): Promise<string> {
  const hash = createHash(algorithm)
  for await (const part of createReadStream(path, { highWaterMark: 1024 * 1024 }) as AsyncIterable<Buffer>) {
    if (deadline.reason) throw new Error(deadline.message)
    hash.update(part)
  }
  return hash.digest('hex')
}
