/**
 * What the guest image holds, and the name that follows from it. It is a Debian 12 for an emulated processor: each instruction costs some twenty of a real one,
 * so whatever a guest of a test does not need is left out, above all of what runs until it can be logged in to.
 *
 * 1. Whatever changes the image changes the hash: the recipe, the files beside this one, the base image of the lab, the architecture.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { arch } from 'node:os'
import { join } from 'node:path'
import { baseImageName, baseRecipe } from '@lichen/lab'

export const recipe = {
  packages: ['cloud-init', 'openssh-server', 'ifupdown', 'isc-dhcp-client', 'iputils-ping', 'sudo', 'acpid'],
  /** Its kernel is unpacked, not installed: initramfs-tools and what they bring are not needed for a root on a virtio disk. */
  kernelPackage: 'linux-image-cloud-amd64',
  /** Loaded before the root is: its disk, and all else that a guest of Nova's boots with. ext4 is part of the kernel. */
  initrdModules: ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_rng', 'ata_piix', 'sr_mod', 'isofs'],
  /** Of the modules that the kernel comes with these stay, with those they need: udev loads whatever fits the emulated hardware, and most of it is of no use. */
  modules: ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_rng', 'virtio_scsi', 'ata_piix', 'sd_mod', 'sr_mod', 'isofs', 'vfat', 'nls_ascii', 'nls_cp437', 'button', 'evdev'],
  /** Half of it is free. Glance and Nova read and write every byte of it. */
  sizeBytes: 512 * 1024 ** 2,
  /**
   * All that a boot starts, by the target that wants it: Debian's own wishes are taken away, most of which are about hardware, seats and disks that a guest has not.
   * Devices come from the kernel (devtmpfs), whose modules the initrd has loaded: udev can wait.
   */
  wants: {
    'sysinit.target': ['systemd-journald.service'],
    'sockets.target': ['systemd-journald.socket', 'systemd-journald-dev-log.socket', 'dbus.socket'],
    'multi-user.target': ['cloud-init.service', 'ssh.service', 'serial-getty@ttyS0.service'],
  },
  /** Shell patterns below the root. */
  removed: [
    ...['var/cache/apt/*', 'var/lib/apt/lists/*', 'etc/apt/apt.conf.d/00proxy', 'etc/dpkg/dpkg.cfg.d/lab', 'etc/ssh/ssh_host_*', 'var/lib/dbus/machine-id'],
    // each is a program more when an address is had, and does nothing here
    ...['etc/dhcp/dhclient-*-hooks.d/debug', 'etc/dhcp/dhclient-exit-hooks.d/hook-dhclient', 'etc/network/if-up.d/*', 'etc/network/if-down.d/*'],
    ...['usr/share/man', 'usr/share/i18n', 'usr/share/locale'],
  ],
} as const

/** The directory name of what this recipe gives, e.g. `guest-image-0123456789abcdef`. */
export function guestImageName(): string {
  const hash = createHash('sha256').update(JSON.stringify({ recipe, base: baseImageName(baseRecipe), arch: arch() }))
  for (const name of readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(import.meta.dirname, name)
    if (statSync(path).isFile()) hash.update(`\0${name}\0`).update(readFileSync(path))
  }
  return 'guest-image-' + hash.digest('hex').slice(0, 16)
}
