import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { runProgram, runRequired } from '@lichen/lab'
import t, { type Test } from 'tap'
import { cacheDirectory, skipReason } from '../lab/lab-fixture.js'
import { buildKubePackages, type KubePackages } from './packages/build.js'
import { serveDirectory } from './serve-directory.js'

// As for nodes: the lab's cache belongs to root, and so do chroots.
const skip = skipReason()
let kube: KubePackages

t.before(async () => {
  if (skip === false) kube = await buildKubePackages({ cacheDirectory, log: (line) => t.comment(line) })
})

function makeDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'lichen-kube-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** A keyring with a key that has signed nothing of ours. */
async function makeForeignKey(directory: string): Promise<string> {
  const home = join(directory, 'gnupg')
  mkdirSync(home, { mode: 0o700 })
  const gpg = ['gpg', '--homedir', home, '--batch', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', ''] as const
  await runRequired([...gpg, '--quick-generate-key', 'somebody else', 'rsa2048', 'sign', 'never'])
  await runRequired([...gpg, '--armor', '--export', '--output', join(directory, 'foreign.asc')])
  await runProgram(['gpgconf', '--homedir', home, '--kill', 'all'])
  return join(directory, 'foreign.asc')
}

/** An apt that knows nothing but the repository: sources, lists, cache and status of its own, and nothing of the host's configuration. */
function makeApt(directory: string, url: string, keyPath: string): (...words: string[]) => ReturnType<typeof runProgram> {
  for (const path of ['etc/apt.conf.d', 'etc/preferences.d', 'etc/sources.list.d', 'etc/trusted.gpg.d', 'state/lists/partial', 'cache/archives/partial', 'downloads']) mkdirSync(join(directory, path), { recursive: true })
  const key = join(directory, 'etc/kubernetes.asc')
  copyFileSync(keyPath, key)
  writeFileSync(join(directory, 'etc/sources.list'), `deb [signed-by=${key}] ${url}/repository ./\n`)
  writeFileSync(join(directory, 'status'), '')
  const settings = { 'Dir::Etc': `${directory}/etc`, 'Dir::State': `${directory}/state`, 'Dir::State::status': `${directory}/status`, 'Dir::Cache': `${directory}/cache`, 'APT::Sandbox::User': 'root', 'Acquire::Languages': 'none' }
  const configuration = join(directory, 'apt.conf')
  writeFileSync(configuration, Object.entries(settings).map(([name, value]) => `${name} "${value}";\n`).join(''))
  return (...words) => runProgram(['apt-get', '--quiet', ...words], { env: { APT_CONFIG: configuration }, cwd: join(directory, 'downloads') })
}

t.test('apt accepts the repository with its key, and refuses it with another', { skip }, async (t) => {
  const server = await serveDirectory('127.0.0.1', kube.directory)
  t.teardown(() => server.close())
  const good = await makeApt(makeDirectory(t), server.url, kube.keyPath)('update')
  t.equal(good.exitCode, 0, good.stderr)
  t.notMatch(good.stderr + good.stdout, /^(W|E|Err):?/m)
  const directory = makeDirectory(t)
  const foreignKey = await makeForeignKey(directory)
  const bad = await makeApt(directory, server.url, foreignKey)('update')
  t.not(bad.exitCode, 0)
  t.match(bad.stderr, /NO_PUBKEY/)
})

t.test('both signatures are good to gpgv, and not when a byte changes', { skip }, async (t) => {
  const directory = makeDirectory(t)
  const keyring = join(directory, 'keyring.gpg')
  await runRequired(['gpg', '--homedir', directory, '--batch', '--dearmor', '--output', keyring, kube.keyPath])
  const gpgv = async (...files: string[]): Promise<number> => (await runProgram(['gpgv', '--keyring', keyring, ...files])).exitCode
  const release = join(kube.repositoryDirectory, 'Release')
  t.equal(await gpgv(join(kube.repositoryDirectory, 'InRelease')), 0)
  t.equal(await gpgv(`${release}.gpg`, release), 0)
  writeFileSync(join(directory, 'Release'), readFileSync(release, 'utf8').replace('Origin', 'origin'))
  t.not(await gpgv(`${release}.gpg`, join(directory, 'Release')), 0)
})

t.test('nothing is served from outside the directory', { skip }, async (t) => {
  const server = await serveDirectory('127.0.0.1', kube.repositoryDirectory)
  t.teardown(() => server.close())
  t.equal((await fetch(`${server.url}/Release`)).status, 200)
  for (const path of ['', 'absent', '..%2Fmanifest.json', '../manifest.json', '%2e%2e/manifest.json', '%']) t.equal((await fetch(`${server.url}/${path}`)).status, 404, path)
})

t.test('the packages of each version hold programs of that version, which run', { skip }, async (t) => {
  const server = await serveDirectory('127.0.0.1', kube.directory)
  t.teardown(() => server.close())
  t.same(kube.versions, ['1.20.2', '1.20.3'])
  const directory = makeDirectory(t)
  const apt = makeApt(directory, server.url, kube.keyPath)
  t.equal((await apt('update')).exitCode, 0)
  for (const version of kube.versions) {
    const root = join(directory, version)
    for (const name of ['kubelet', 'kubeadm', 'kubectl', 'cri-tools', 'kubernetes-cni']) {
      const { exitCode, stderr } = await apt('download', `${name}=${kube.packageVersions[version]}`)
      t.equal(exitCode, 0, stderr)
    }
    for (const file of readdirSync(join(directory, 'downloads'))) await runRequired(['dpkg-deb', '--extract', join(directory, 'downloads', file), root])
    for (const file of readdirSync(join(directory, 'downloads'))) rmSync(join(directory, 'downloads', file))
    const print = async (...argv: [string, ...string[]]): Promise<string> => (await runRequired([join(root, 'usr/bin', argv[0]), ...argv.slice(1)])).stdout.trim()
    t.equal(await print('kubelet', '--version'), `Kubernetes v${version}`)
    t.equal(await print('kubeadm', 'version', '-o', 'short'), `v${version}`)
    t.match(await print('kubectl', 'version', '--client'), `GitVersion:"v${version}"`)
    t.match((await runProgram([join(root, 'usr/bin/crictl')])).stderr, /^usage: crictl/)
    t.ok(existsSync(join(root, 'lib/systemd/system/kubelet.service')))
    await checkKubeadm(t, root, version)
  }
})

/** Runs what of `kubeadm init` needs no cluster, in a root that holds nothing but the packages: the programs need no library. */
async function checkKubeadm(t: Test, root: string, version: string): Promise<void> {
  for (const directory of ['etc/kubernetes', 'var/lib/kubelet', 'tmp', 'proc', 'dev', 'run']) mkdirSync(join(root, directory), { recursive: true })
  const documents = [
    `apiVersion: kubeadm.k8s.io/v1beta2\nkind: InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: 192.0.2.1}\nnodeRegistration: {name: node-1, criSocket: "unix:///run/containerd/containerd.sock"}`,
    `apiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterConfiguration\nkubernetesVersion: v${version}\nimageRepository: ${kube.imageRepository}\netcd: {local: {imageTag: "${kube.etcdTag}"}}\napiServer: {extraArgs: {v: "1"}}`,
    // a map: this is what made kubeadm crash with the vendored reflect2
    `apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nevictionHard: {memory.available: 100Mi}`,
  ]
  writeFileSync(join(root, 'tmp/kubeadm.yaml'), documents.join('\n---\n') + '\n')
  const kubeadm = async (...words: string[]): Promise<string> => {
    const result = await runProgram(['chroot', root, '/usr/bin/kubeadm', ...words])
    t.equal(result.exitCode, 0, `kubeadm ${words.join(' ')} of ${version}: ${result.stderr.slice(0, 2000)}`)
    return result.stdout
  }
  t.match(await kubeadm('config', 'print', 'init-defaults', '--component-configs', 'KubeletConfiguration,KubeProxyConfiguration'), 'kind: KubeletConfiguration')
  const config = ['--config', '/tmp/kubeadm.yaml']
  await kubeadm('config', 'migrate', '--old-config', '/tmp/kubeadm.yaml', '--new-config', '/tmp/migrated.yaml')
  for (const phase of ['certs', 'kubeconfig', 'control-plane']) await kubeadm('init', 'phase', phase, 'all', ...config)
  await kubeadm('init', 'phase', 'etcd', 'local', ...config)
  await kubeadm('init', 'phase', 'kubelet-start', ...config)
  t.match(readFileSync(join(root, 'var/lib/kubelet/config.yaml'), 'utf8'), 'memory.available: 100Mi')
  t.match(readFileSync(join(root, 'etc/kubernetes/admin.conf'), 'utf8'), 'client-key-data')
  const ours = kube.images.filter((image) => image.versions.includes(version)).map(({ reference }) => reference)
  const wanted = (await kubeadm('config', 'images', 'list', ...config)).trim().split('\n')
  t.same(wanted.filter((reference) => !ours.includes(reference)).map((reference) => basename(reference).split(':')[0]), ['coredns'], 'every image that kubeadm names is there, but for CoreDNS')
}

t.test('each image is an archive with the digests that it names, and its program runs', { skip }, async (t) => {
  t.same(readdirSync(kube.imagesDirectory).sort(), kube.images.map(({ file }) => file).sort())
  const commands: Readonly<Record<string, (tag: string) => readonly [readonly string[], RegExp]>> = {
    pause: (tag) => [['/pause', '-v'], new RegExp(tag)],
    busybox: () => [['/bin/sh', '-c', 'ls /bin/httpd'], /httpd/],
    etcd: (tag) => [['/usr/bin/etcd', '--version'], new RegExp(`etcd Version: ${tag}`)],
    'kube-proxy': (tag) => [['/usr/local/bin/kube-proxy', '--version'], new RegExp(`Kubernetes ${tag}`)],
  }
  for (const image of kube.images) {
    const directory = makeDirectory(t)
    await runRequired(['tar', '--extract', '--file', join(kube.imagesDirectory, image.file), '--directory', directory])
    const [entry, ...rest] = JSON.parse(readFileSync(join(directory, 'manifest.json'), 'utf8'))
    t.same(rest, [])
    t.same(entry.RepoTags, [image.reference])
    t.equal(image.reference, `${kube.imageRepository}/${image.name}:${image.tag}`)
    const digest = async (file: string): Promise<string> => (await runRequired(['sha256sum', join(directory, file)])).stdout.slice(0, 64)
    t.equal(entry.Config, `${await digest(entry.Config)}.json`)
    const config = JSON.parse(readFileSync(join(directory, entry.Config), 'utf8'))
    t.equal(entry.Layers.length, 1)
    t.same(config.rootfs.diff_ids, [`sha256:${await digest(entry.Layers[0])}`])
    t.equal(config.os, 'linux')
    const root = join(directory, 'root')
    mkdirSync(root)
    await runRequired(['tar', '--extract', '--file', join(directory, entry.Layers[0]), '--directory', root])
    const [argv, expected] = commands[image.name]?.(image.tag) ?? [[`/usr/local/bin/${image.name}`, '--version'], new RegExp(`Kubernetes ${image.tag}`)]
    const { stdout, stderr } = await runProgram(['chroot', root, ...argv])
    t.match(stdout + stderr, expected, image.reference)
    if (image.name === 'kube-proxy') {
      for (const program of ['iptables', 'ip6tables-restore', 'iptables-save']) t.match((await runProgram(['chroot', root, program, '--version'])).stdout, /nf_tables/, program)
      t.match((await runProgram(['chroot', root, 'conntrack', '--version'])).stdout, /conntrack v/)
    }
    rmSync(directory, { recursive: true })
  }
  t.same(new Set(kube.images.filter(({ role }) => role === 'node').map(({ name }) => name)), new Set(['pause', 'busybox', 'kube-proxy']))
})

t.test('what is there is found at once', { skip }, async (t) => {
  const startedAt = performance.now()
  t.same(await buildKubePackages({ cacheDirectory, log: (line) => t.fail(line) }), kube)
  t.ok(performance.now() - startedAt < 1000)
})
