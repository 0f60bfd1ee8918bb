/**
 * What is built: everything that decides what the packages hold, and the name that follows from it.
 *
 * 1. There is one source, Kubernetes 1.20.2 as Debian ships it. 1.20.3 is no later Kubernetes: it is the same code with another version stamped into it, so that
 *    `kubeadm upgrade` has something to upgrade to.
 * 2. Whatever changes the output changes the hash: the recipe, the files beside this one, the architecture.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { arch } from 'node:os'
import { join } from 'node:path'

export interface Recipe {
  readonly stamps: readonly string[]
  readonly debianRevision: string
  readonly imageRepository: string
  readonly pauseVersion: string
  readonly goVersion: string
}

export const recipe: Recipe = {
  /** The first is the source's own version. */
  stamps: ['1.20.2', '1.20.3'],
  /** As in the packages of pkgs.k8s.io, so that a pin such as `1.20.2-1.1` is written as on real machines. */
  debianRevision: '1.1',
  /** Nothing is ever pulled from it. The dot matters: without one, containerd takes the first part for a repository of docker.io. */
  imageRepository: 'registry.lichen.test',
  /** What kubeadm 1.20 asks for. */
  pauseVersion: '3.2',
  /** Of Debian 12. */
  goVersion: '1.19',
}

/** The directory name of what this recipe gives, e.g. `kube-packages-0123456789abcdef`. */
export function kubePackagesName(): string {
  const hash = createHash('sha256').update(JSON.stringify({ recipe, arch: arch() }))
  // the programs that build are part of the recipe: a change of one of them must not find yesterday's output
  for (const name of readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(import.meta.dirname, name)
    if (statSync(path).isFile()) hash.update(`\0${name}\0`).update(readFileSync(path))
  }
  return 'kube-packages-' + hash.digest('hex').slice(0, 16)
}

/** Debian's and Go's name of this machine's architecture. */
export function debianArchitecture(): string {
  return { x64: 'amd64', arm64: 'arm64' }[arch() as string] ?? arch()
}
