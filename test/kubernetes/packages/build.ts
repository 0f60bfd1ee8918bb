/**
 * The Kubernetes packages that tests install: built once for a recipe, kept in the lab's cache directory.
 *
 * 1. They appear under their name only when they are complete (rename), and are never changed afterwards: another recipe has another name.
 * 2. One builder at a time (lock); one that dies leaves a directory that the next one removes, and Go's cache, from which the next one goes on.
 * 3. No root, nothing installed and no apt source changed, but for three programs that most build hosts have: gcc, gpg, gpgv.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { LichenError } from '@lichen/core'
import { openLock, requireSpace, requireTools } from '@lichen/lab'
import { openDebianArchive } from './debian-archive.js'
import type { Deb } from './deb.js'
import { buildDebs, packageVersion } from './debs.js'
import { openGo } from './go.js'
import { writeImages, type KubeImage } from './images.js'
import { buildPrograms } from './programs.js'
import { kubePackagesName, recipe } from './recipe.js'
import { keyFile, writeRepository } from './repository.js'
import { openSource } from './source.js'

export interface KubePackagesOptions {
  /** The lab's: packages and Go's cache are kept in it. */
  readonly cacheDirectory: string
  /** Gets a line for each step that takes time. */
  readonly log?: (line: string) => void
}

export interface KubePackages {
  /** Serve this: `repository/` and `images/` are in it. */
  readonly directory: string
  /** Flat, for `deb [signed-by=KEY] URL/repository ./`. */
  readonly repositoryDirectory: string
  /** The public key of the repository, armored. */
  readonly keyPath: string
  readonly imagesDirectory: string
  /** Of Kubernetes, oldest first. The first is the source's own; the others are the same code with another stamp. */
  readonly versions: readonly string[]
  /** Version of Kubernetes → version of kubelet, kubeadm, kubectl and cri-tools, for pins. */
  readonly packageVersions: Readonly<Record<string, string>>
  /** For kubeadm's ClusterConfiguration. */
  readonly imageRepository: string
  /** For kubeadm's `etcd.local.imageTag`: it is Debian's etcd, not the one that kubeadm would name. */
  readonly etcdTag: string
  readonly images: readonly KubeImage[]
}

/** What `manifest.json` in the output says. */
type Manifest = Pick<KubePackages, 'versions' | 'packageVersions' | 'imageRepository' | 'etcdTag' | 'images'>

/** Measured: 2.4 GB while it works, of which 0.75 GB stay, and 1.7 GB of Go's cache. */
const buildSizeBytes = 5e9
const lockTimeoutMs = 3_600_000

/**
 * The packages, built first when they are not there.
 * @throws LAB_MIRROR, LAB_NO_SPACE, LAB_NOT_ROOT and LAB_TOOLS_MISSING (gcc or gpg missing), LAB_PROGRAM_FAILED, LAB_BUSY after an hour behind another builder.
 */
export async function buildKubePackages(options: KubePackagesOptions): Promise<KubePackages> {
  const cacheDirectory = resolve(options.cacheDirectory)
  const log = options.log ?? (() => undefined)
  const directory = join(cacheDirectory, kubePackagesName())
  if (existsSync(directory)) return read(directory)
  mkdirSync(cacheDirectory, { recursive: true })
  const lockPath = join(cacheDirectory, 'kube-packages.lock')
  const lock = (await openLock(lockPath, 1000)) ?? (log('waiting for another builder of the packages'), await openLock(lockPath, lockTimeoutMs))
  if (!lock) throw new LichenError('LAB_BUSY', `another program has been building Kubernetes packages in ${cacheDirectory} for an hour`)
  try {
    if (!existsSync(directory)) await build(directory, cacheDirectory, log)
  } finally {
    await lock.close({ remove: true })
  }
  return read(directory)
}

async function build(directory: string, cacheDirectory: string, log: (line: string) => void): Promise<void> {
  await requireTools({ gcc: 'gcc libc6-dev', gpg: 'gnupg', gpgv: 'gpgv' }, log)
  // only the one who holds the lock comes here, so nobody works in these; a compiler of a dead builder may still be ending
  for (const entry of readdirSync(cacheDirectory)) if (/^kube-packages-\w+\.building-/.test(entry)) rmSync(join(cacheDirectory, entry), { recursive: true, force: true, maxRetries: 5 })
  requireSpace(cacheDirectory, buildSizeBytes, 'building the Kubernetes packages')
  const temporary = `${directory}.building-${process.pid}`
  const work = join(temporary, 'work')
  const output = join(temporary, 'output')
  mkdirSync(work, { recursive: true })
  try {
    await fill(output, work, join(cacheDirectory, 'kube-packages-go'), log)
    renameSync(output, directory)
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
}

async function fill(output: string, work: string, goCache: string, log: (line: string) => void): Promise<void> {
  const archive = await openDebianArchive(join(work, 'apt'), log)
  const go = await openGo({ archive, directory: join(work, 'go'), cacheDirectory: goCache })
  const tree = await openSource(archive, go, log)
  const programsOf = (version: string): string => join(work, 'programs', version)
  const repository = join(output, 'repository')
  const debs: Deb[] = []
  for (const version of recipe.stamps) {
    log(version === recipe.stamps[0] ? `building ${version} (five minutes with two cores at rest; less than one where Go's cache is filled)` : `linking ${version}`)
    await buildPrograms(go, tree, version, programsOf(version))
    debs.push(...(await buildDebs(version, programsOf(version), join(work, 'debs'), repository)))
  }
  log('signing the repository')
  await writeRepository(repository, debs)
  const images = await writeImages({ archive, tree, work: join(work, 'images'), directory: join(output, 'images'), programsOf, log })
  const manifest: Manifest = {
    versions: recipe.stamps,
    packageVersions: Object.fromEntries(recipe.stamps.map((version) => [version, packageVersion(version)])),
    imageRepository: recipe.imageRepository,
    etcdTag: images.find(({ name }) => name === 'etcd')?.tag ?? '',
    images,
  }
  writeFileSync(join(output, 'manifest.json'), JSON.stringify(manifest, null, 2) + '\n')
}

function read(directory: string): KubePackages {
  const manifest = JSON.parse(readFileSync(join(directory, 'manifest.json'), 'utf8')) as Manifest
  const repositoryDirectory = join(directory, 'repository')
  return { ...manifest, directory, repositoryDirectory, keyPath: join(repositoryDirectory, keyFile), imagesDirectory: join(directory, 'images') }
}
