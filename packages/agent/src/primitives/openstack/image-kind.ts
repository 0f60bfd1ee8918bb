/**
 * Glance's images (Image API v2), with their content.
 *
 * 1. An image is made, then its content is uploaded. One that never became `active` is what a crash in between has left: it is made anew.
 * 2. The content is compared by the SHA-256 that the image carries in a property of ours, when the spec names one; else by size and glance's own digest of it.
 * 3. What is uploaded was looked at before: glance takes everything.
 */
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { download } from '../download.js'
import { ApiFailure, type OpenstackCode } from './api-failure.js'
import { checkImageFile, digestFile } from './image-file.js'
import { collection, type Kind, type Wanted } from './kind.js'
import type { JsonObject, Session } from './session.js'

/** Of the image, by which later checks know the content without reading it. */
export const digestProperty = 'lichen_sha256'

/** Where the content comes from: exactly one of `file` and `url`. */
export interface ImageContent {
  readonly file?: string
  readonly url?: string
  readonly sha256?: string
  readonly diskFormat: string
}

const unfinished = ['queued', 'saving', 'uploading', 'importing', 'killed']

const images = collection({
  service: 'image',
  noun: 'image',
  path: '/images',
  many: 'images',
  owner: 'owner',
  update: 'jsonPatch',
  title: (values) => String(values['name']),
  fields: {
    name: { use: 'key' },
    owner: { use: 'key', apiFallback: (session) => session.projectId, isReadOnly: true },
    status: { use: 'fixed', fallback: 'active', isReadOnly: true, normal: (value) => (unfinished.includes(String(value)) ? value : 'active') },
    diskFormat: { api: 'disk_format', use: 'fixed' },
    containerFormat: { api: 'container_format', use: 'fixed' },
    visibility: {},
    protected: {},
    minDiskGiB: { api: 'min_disk' },
    minRamMiB: { api: 'min_ram' },
    kernel: { api: 'kernel_id', refers: { kind: 'image' } },
    ramdisk: { api: 'ramdisk_id', refers: { kind: 'image' } },
    properties: { isMap: true },
    content: { use: 'fixed', findDifference: (content, found, session) => findDifference(content as ImageContent, found, session) },
  },
})

/** Row of the table. */
export const image: Kind = {
  ...images,
  create: (wanted, session) => withFile(contentOf(wanted), session, (path) => upload(wanted, path, session)),
  replace: (wanted, found, session) =>
    withFile(contentOf(wanted), session, async (path) => {
      // The old one stays while there is nothing to put in its place.
      await checkImageFile(path, contentOf(wanted).diskFormat)
      await images.remove?.(found, wanted.keys, session)
      await upload(wanted, path, session)
    }),
}

const contentOf = ({ part }: Wanted): ImageContent => part.values['content'] as ImageContent

async function upload(wanted: Wanted, path: string, session: Session): Promise<void> {
  const { sha256, diskFormat } = contentOf(wanted)
  const { sizeBytes } = await checkImageFile(path, diskFormat)
  const { content: _notSent, ...fields } = wanted.content
  const made = await session.write('POST', { service: 'image', path: '/images' }, { json: { ...fields, ...(sha256 !== undefined && { [digestProperty]: sha256 }) } })
  session.context.log.say(`uploading ${sizeBytes} bytes to ${wanted.title} (${String(made['id'])})`)
  try {
    await session.write('PUT', { service: 'image', path: `/images/${String(made['id'])}/file` }, { stream: { sizeBytes, open: () => createReadStream(path) }, type: 'application/octet-stream' })
  } catch (error) {
    // The next try would find it and make it anew; until then people see an image that never comes.
    if (!session.context.deadline.reason) await images.remove?.(made, wanted.keys, session).catch(() => {})
    throw error
  }
}

/** Calls `work` with the path of the content on this node; what was fetched for that is removed. */
async function withFile({ file, url, sha256 }: ImageContent, session: Session, work: (path: string) => Promise<void>): Promise<void> {
  const { context } = session
  if (file !== undefined) {
    const digest = sha256 === undefined ? undefined : await digestIfThere(file, 'sha256', session)
    if (digest !== undefined && digest !== sha256) throw new ApiFailure('COMMAND_DIGEST_MISMATCH', `${file}: its SHA-256 is ${digest}, asked for was ${sha256}; nothing was uploaded`)
    return await work(file)
  }
  const directory = join(context.dataDirectory, 'downloads')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, `${sha256}-${randomUUID()}`)
  try {
    const problem = await download({ url: url!, sha256: sha256! }, path, context)
    if (problem) throw new ApiFailure(problem.failure.code as OpenstackCode, problem.failure.message)
    await work(path)
  } finally {
    await rm(path, { force: true })
  }
}

async function findDifference({ file, sha256 }: ImageContent, found: JsonObject, session: Session): Promise<string | undefined> {
  const known = found[digestProperty] ?? (found['os_hash_algo'] === 'sha256' ? found['os_hash_value'] : undefined)
  if (sha256 !== undefined && known !== undefined) return known === sha256 ? undefined : `SHA-256 ${String(known)}, asked for is ${sha256}`
  // Making it anew fails because of the missing file, before the old one goes.
  const sizeBytes = file === undefined ? undefined : (await stat(file).catch(() => undefined))?.size
  if (file === undefined || sizeBytes === undefined) return `cannot be compared: ${file === undefined ? 'the image does not carry its SHA-256' : `there is no ${file}`}`
  if (sizeBytes !== found['size']) return `${String(found['size'])} → ${sizeBytes} bytes`
  const [algorithm, digest] = typeof found['os_hash_algo'] === 'string' ? [found['os_hash_algo'], found['os_hash_value']] : ['md5', found['checksum']]
  return typeof digest !== 'string' || (await digestIfThere(file, algorithm, session)) === digest ? undefined : `another ${algorithm}`
}

async function digestIfThere(path: string, algorithm: string, { context }: Session): Promise<string | undefined> {
  try {
    return await digestFile(path, algorithm, context.deadline)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
