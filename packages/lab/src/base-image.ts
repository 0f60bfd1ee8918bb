/**
 * The base image that nodes are copied from: a minimal Debian root in the cache directory, named after a hash of its recipe.
 *
 * 1. It appears under its name only when it is complete (rename); a builder that dies leaves a directory that the next one removes.
 * 2. One builder at a time (lock); debootstrap dies with its builder and works in a mount namespace of its own, so it leaves no mount.
 * 3. It is never changed afterwards: another recipe has another name.
 */
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { arch } from 'node:os'
import { dirname, join } from 'node:path'
import { LichenError } from '@lichen/core'
import { requireSpace } from './host.js'
import { openLock } from './lock.js'
import { nodeSuite, type Mirror } from './mirror.js'
import { dieWithParent, runProgram } from './program.js'

/** Measured: 200 MB unpacked before it is trimmed to 150, 60 MB of packages, and as much again while debootstrap works. */
const buildSizeBytes = 900e6

/** Everything that decides what the base image holds. Changing it gives a new image under a new name. */
export const baseRecipe = {
  version: 1,
  suite: nodeSuite,
  packages: [
    ...['systemd-sysv', 'dbus', 'udev', 'kmod', 'iproute2', 'ifupdown', 'procps', 'ca-certificates', 'curl', 'iputils-ping', 'less'],
    // what people and blueprints expect on any server and minbase lacks
    ...['xz-utils', 'zstd', 'netbase', 'openssl'],
  ],
  files: {
    'etc/fstab': '',
    'etc/machine-id': '',
    'etc/resolv.conf': '# no resolver: nodes know each other by /etc/hosts, and apt reaches the archive through a proxy\n',
    'etc/apt/apt.conf.d/01lab': 'APT::Install-Recommends "false";\nAcquire::Languages "none";\n',
    // no fsync while unpacking: a third of the time of an installation, and a node is thrown away anyway; and no documentation or
    // translation, a quarter of what is copied for each node (copyright files and man pages stay)
    'etc/dpkg/dpkg.cfg.d/lab': [
      'force-unsafe-io',
      ...['doc', 'info', 'locale'].map((directory) => `path-exclude=/usr/share/${directory}/*`),
      'path-include=/usr/share/doc/*/copyright',
      '',
    ].join('\n'),
    // a service that ignores SIGTERM would hold a reboot for the 90 s of the default
    'etc/systemd/system.conf.d/lab.conf': '[Manager]\nDefaultTimeoutStopSec=15s\n',
  },
  /** The D-Bus package made up a machine id while the image was built: all nodes would have it. */
  removedFiles: ['var/lib/dbus/machine-id', 'etc/hostname', 'usr/share/locale', 'usr/share/info'],
  /** Directories of which only copyright files stay. */
  copyrightOnly: 'usr/share/doc',
  /** Work that is of no use in a node that lives for an hour, or that waits for hardware it does not have. */
  maskedUnits: [
    ...['apt-daily.timer', 'apt-daily-upgrade.timer', 'e2scrub_all.timer', 'e2scrub_reap.service', 'fstrim.timer', 'dpkg-db-backup.timer'],
    ...['getty@tty1.service', 'getty.target', 'console-getty.service', 'systemd-udev-settle.service'],
  ],
} as const

/** The directory name of the base image with this recipe. */
export function baseImageName(recipe: unknown): string {
  return 'base-' + createHash('sha256').update(JSON.stringify({ recipe, arch: arch() })).digest('hex').slice(0, 16)
}

export interface BaseImageOptions {
  readonly cacheDirectory: string
  readonly mirror: Mirror
  /** Where a package proxy answers, as `host:port`. */
  readonly proxy: string
  readonly log: (line: string) => void
}

/**
 * The path of the base image, built first when it is not there (about half a minute, and 60 MB of packages).
 * @throws LAB_NO_SPACE, LAB_PROGRAM_FAILED (debootstrap, with the path of its log), LAB_BUSY after ten minutes behind another builder.
 */
export async function openBaseImage(options: BaseImageOptions): Promise<string> {
  const path = join(options.cacheDirectory, baseImageName(baseRecipe))
  if (existsSync(path)) return path
  mkdirSync(options.cacheDirectory, { recursive: true })
  const lock = await openLock(`${path}.lock`, 600_000)
  if (!lock) throw new LichenError('LAB_BUSY', `another program has been building ${path} for ten minutes`)
  try {
    if (!existsSync(path)) await build(path, options)
  } finally {
    await lock.close({ remove: true })
  }
  return path
}

async function build(path: string, options: BaseImageOptions): Promise<void> {
  removeUnfinished(path)
  requireSpace(dirname(path), buildSizeBytes, 'the base image')
  const temporary = `${path}.building-${process.pid}`
  options.log('building the base image with debootstrap (once; about half a minute)')
  const archive = `http://${options.proxy}/${options.mirror.archive.slice('http://'.length)}`
  const result = await runProgram(
    dieWithParent([
      ...['unshare', '--mount', '--pid', '--fork', '--kill-child=KILL', '--mount-proc', '--'],
      ...['debootstrap', '--variant=minbase', `--include=${baseRecipe.packages.join(',')}`, baseRecipe.suite, temporary, archive],
    ]),
    { env: { DEBIAN_FRONTEND: 'noninteractive' } },
  )
  if (result.exitCode !== 0) {
    const logPath = `${path}.log`
    writeFileSync(logPath, `${result.stdout}\n${result.stderr}\n${readLog(temporary)}`)
    rmSync(temporary, { recursive: true, force: true })
    const line = /^(E|W): .*$/m.exec(result.stdout + result.stderr)?.[0] ?? `exit code ${result.exitCode}`
    throw new LichenError('LAB_PROGRAM_FAILED', `debootstrap of ${baseRecipe.suite} from ${options.mirror.archive}: ${line} (see ${logPath})`)
  }
  finish(temporary)
  renameSync(temporary, path)
}

function finish(root: string): void {
  for (const [file, text] of Object.entries(baseRecipe.files)) {
    const path = join(root, file)
    mkdirSync(dirname(path), { recursive: true })
    rmSync(path, { force: true })
    writeFileSync(path, text)
  }
  for (const file of baseRecipe.removedFiles) rmSync(join(root, file), { recursive: true, force: true })
  keepCopyright(join(root, baseRecipe.copyrightOnly))
  for (const unit of baseRecipe.maskedUnits) {
    const link = join(root, 'etc/systemd/system', unit)
    rmSync(link, { recursive: true, force: true })
    symlinkSync('/dev/null', link)
  }
  for (const directory of ['var/cache/apt/archives', 'var/lib/apt/lists']) {
    for (const entry of readdirSync(join(root, directory))) {
      if (entry !== 'partial' && entry !== 'lock') rmSync(join(root, directory, entry), { recursive: true })
    }
  }
}

function keepCopyright(directory: string): void {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name)
    if (!lstatSync(path).isDirectory()) continue
    for (const entry of readdirSync(path)) if (entry !== 'copyright') rmSync(join(path, entry), { recursive: true })
  }
}

/** Only the one who holds the lock calls this, so nobody works in these directories. */
function removeUnfinished(path: string): void {
  const directory = dirname(path)
  const prefix = `${path.slice(directory.length + 1)}.building-`
  for (const entry of readdirSync(directory)) {
    if (entry.startsWith(prefix)) rmSync(join(directory, entry), { recursive: true, force: true })
  }
}

function readLog(root: string): string {
  try {
    return readFileSync(join(root, 'debootstrap/debootstrap.log'), 'utf8')
  } catch {
    return ''
  }
}
