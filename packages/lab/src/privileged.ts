/**
 * What a privileged node sets up for itself at each boot, before anything that runs containers: cgroups of the older layout that can be written (nspawn mounts them read-only), and settings of the
 * kernel as a kubelet wants them. Those are the host's, and stay as they are: stand-ins lie over their files, with the values that the kubelet would write (pkg/kubelet/cm: setupKernelTunables).
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const unit = 'lab-privileged.service'
const program = '/usr/local/sbin/lab-privileged'

const settings: Readonly<Record<string, number>> = { 'vm/overcommit_memory': 1, 'vm/panic_on_oom': 0, 'kernel/panic': 10, 'kernel/panic_on_oops': 1, 'kernel/keys/root_maxkeys': 1_000_000, 'kernel/keys/root_maxbytes': 25_000_000 }

const script = `#!/bin/sh
set -eu
mount -o remount,rw /sys/fs/cgroup 2>/dev/null || true
for hierarchy in /sys/fs/cgroup/*/; do
  mountpoint --quiet "$hierarchy" && mount -o remount,bind,rw "$hierarchy" || true
done
mkdir --parents /run/lab-sysctl
while read -r name value; do
  file=/run/lab-sysctl/$(echo "$name" | tr / .)
  echo "$value" >"$file"
  mount --bind "$file" "/proc/sys/$name"
done <<END
${Object.entries(settings).map(([name, value]) => `${name} ${value}`).join('\n')}
END
`

const description = `[Unit]
Description=What a privileged lab node needs of its machine
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=${program}

[Install]
WantedBy=sysinit.target
`

// A container whose first process ignores SIGTERM holds up the shutdown for this long.
const stopTimeout = '[Manager]\nDefaultTimeoutStopSec=15s\n'

/** Writes it into the root directory of a node that has not booted. */
export function writePrivilegedSetup(root: string): void {
  writeFileSync(join(root, program), script, { mode: 0o755 })
  const units = join(root, 'etc/systemd/system')
  writeFileSync(join(units, unit), description)
  mkdirSync(join(units, 'sysinit.target.wants'), { recursive: true })
  symlinkSync(`../${unit}`, join(units, 'sysinit.target.wants', unit))
  mkdirSync(join(root, 'etc/systemd/system.conf.d'), { recursive: true })
  writeFileSync(join(root, 'etc/systemd/system.conf.d/lab.conf'), stopTimeout)
}
