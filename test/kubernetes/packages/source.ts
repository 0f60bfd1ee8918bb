/**
 * The source tree of Kubernetes as its upstream released it, from Debian's source package, with the four changes that it needs to build and run here:
 *
 * 1. crictl, which kubeadm calls and Debian has no package of: crictl.go, over the tree's own client of the container runtime interface.
 * 2. reflect2 of Debian in place of the vendored 1.0.1, which dereferences nil when a map is marshalled under Go 1.18 or later (the runtime's map iterator
 *    changed). That builds, and `--version` works: only a run shows it.
 * 3. zz_generated.openapi.go, which the release does not hold, made with the tree's own generator.
 * 4. Nothing else: Debian's patches, all of them to kubectl, are left out.
 */
import { copyFileSync, cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { runRequired } from '@lichen/lab'
import type { DebianArchive } from './debian-archive.js'
import type { Go } from './go.js'

/** The import path of the tree. */
export const sourcePackage = 'k8s.io/kubernetes'

/** The path of the tree, ready to build, in Go's path. */
export async function openSource(archive: DebianArchive, go: Go, log: (line: string) => void): Promise<string> {
  const tree = join(go.path, 'src', sourcePackage)
  mkdirSync(tree, { recursive: true })
  log('fetching the source of Kubernetes')
  const tarball = await archive.fetchSource('kubernetes')
  await runRequired(['tar', '--extract', '--file', tarball, '--directory', tree, '--strip-components=1', '--no-same-owner'])
  mkdirSync(join(tree, 'cmd/crictl'))
  copyFileSync(join(import.meta.dirname, 'crictl.go'), join(tree, 'cmd/crictl/main.go'))
  await replaceReflect(archive, go, tree)
  log('generating the OpenAPI definitions')
  await generateOpenApi(go, tree)
  return tree
}

async function replaceReflect(archive: DebianArchive, go: Go, tree: string): Promise<void> {
  const name = 'github.com/modern-go/reflect2'
  const unpacked = join(go.path, 'reflect2')
  await archive.unpack(['golang-github-modern-go-reflect2-dev'], unpacked)
  const vendored = join(tree, 'vendor', name)
  for (const file of readdirSync(vendored)) if (/\.(go|s)$/.test(file)) rmSync(join(vendored, file))
  const from = join(unpacked, 'usr/share/gocode/src', name)
  for (const file of readdirSync(from)) if (/(?<!_test)\.(go|s)$/.test(file)) cpSync(join(from, file), join(vendored, file), { dereference: true })
}

async function generateOpenApi(go: Go, tree: string): Promise<void> {
  const generator = join(go.path, 'openapi-gen')
  await go.run(['go', 'build', '-o', generator, `${sourcePackage}/vendor/k8s.io/kube-openapi/cmd/openapi-gen`], tree)
  const inputs = new Set<string>()
  for (const top of ['pkg', 'staging/src/k8s.io', 'vendor/k8s.io']) {
    for (const file of await listGoFiles(join(tree, top))) {
      if (!/^\/\/ *\+k8s:openapi-gen=/m.test(await readFile(file, 'utf8'))) continue
      const directory = relative(tree, dirname(file)).replace(/^staging\/src\//, 'vendor/')
      inputs.add(`${sourcePackage}/${directory}`)
    }
  }
  await go.run(
    [
      ...[generator, '-O', 'zz_generated.openapi', '-h', 'hack/boilerplate/boilerplate.generatego.txt', '-p', `${sourcePackage}/pkg/generated/openapi`],
      ...['-r', join(go.path, 'openapi-violations'), '-i', [...inputs].sort().join(',')],
    ],
    tree,
  )
}

/** Sources that could ask for definitions: neither tests nor generated files nor the trees of examples. Links, as those of vendor/ to staging/, are not followed. */
async function listGoFiles(top: string): Promise<string[]> {
  const left = /_test\.go$|\/testdata\/|\/_examples\/|\/code-generator\/|\/sample-|generated/
  const { stdout } = await runRequired(['find', top, '-type', 'f', '-name', '*.go'])
  return stdout.split('\n').filter((file) => file !== '' && !left.test(file.slice(top.length)))
}
