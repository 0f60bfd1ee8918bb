/** One container image as a docker-archive of one layer: manifest.json, configuration, layer.tar; what `ctr -n k8s.io images import` and `docker load` take. */
import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { runRequired } from '@lichen/lab'
import { debianArchitecture } from './recipe.js'

export interface ImageOptions {
  /** With repository and tag, e.g. `registry.lichen.test/pause:3.2`. */
  readonly reference: string
  /** The directory that becomes the layer; everything in it will belong to root. */
  readonly root: string
  /** What a container of it runs when nothing else is said. */
  readonly entrypoint?: readonly string[]
}

// the same files give the same image
const plain = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--mode=u=rwX,go=rX']

/** Writes the archive of the image to `file`. */
export async function writeImage(file: string, options: ImageOptions): Promise<void> {
  const work = `${file}.work`
  mkdirSync(work)
  const layer = join(work, 'layer.tar')
  await runRequired(['tar', ...plain, '--create', '--file', layer, '--directory', options.root, '.'])
  const digest = await hashFile(layer)
  const config = JSON.stringify({
    architecture: debianArchitecture(),
    os: 'linux',
    config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], WorkingDir: '/', ...(options.entrypoint ? { Entrypoint: options.entrypoint } : {}) },
    rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    history: [{ created_by: 'npm run kube-packages' }],
  })
  const configName = `${createHash('sha256').update(config).digest('hex')}.json`
  const layerName = `${digest}/layer.tar`
  mkdirSync(join(work, digest))
  writeFileSync(join(work, configName), config)
  writeFileSync(join(work, 'manifest.json'), JSON.stringify([{ Config: configName, RepoTags: [options.reference], Layers: [layerName] }]))
  renameSync(layer, join(work, layerName))
  await runRequired(['tar', ...plain, '--create', '--file', file, '--directory', work, 'manifest.json', configName, digest])
  rmSync(work, { recursive: true })
}

/** SHA-256 of a file, in hexadecimal. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}
