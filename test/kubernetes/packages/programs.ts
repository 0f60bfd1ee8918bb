/** The programs of Kubernetes, built with one version stamped into them. */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Go } from './go.js'
import { sourcePackage } from './source.js'

/** What is built of `cmd/`. */
export const programNames = ['kubelet', 'kubeadm', 'kubectl', 'kube-proxy', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'crictl'] as const

/** A fixed time: the same source gives the same programs. It is that of the release. */
const buildDate = '2021-01-13T13:20:00Z'

/**
 * Builds all programs with `version` (such as `1.20.2`) into `directory`. The version goes in when they are linked: a second version compiles nothing anew.
 */
export async function buildPrograms(go: Go, tree: string, version: string, directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true })
  // one `go build` for all, so that what they share is compiled once and every core has work
  const packages = programNames.map((name) => `${sourcePackage}/cmd/${name}`)
  await go.run(['go', 'build', '-trimpath', '-ldflags', buildLinkerFlags(tree, version), '-o', `${directory}/`, ...packages], tree)
}

function buildLinkerFlags(tree: string, version: string): string {
  const [major, minor] = version.split('.')
  const commit = /gitCommit\s+= "([0-9a-f]{40})"/.exec(readFileSync(join(tree, 'staging/src/k8s.io/component-base/version/base.go'), 'utf8'))?.[1]
  const variables = { gitVersion: `v${version}`, gitMajor: major, gitMinor: minor, gitTreeState: 'archive', gitCommit: commit ?? '', buildDate }
  const flags = ['component-base/version', 'client-go/pkg/version'].flatMap((name) =>
    Object.entries(variables).map(([variable, value]) => `-X ${sourcePackage}/vendor/k8s.io/${name}.${variable}=${value}`),
  )
  return ['-s', '-w', ...flags].join(' ')
}
