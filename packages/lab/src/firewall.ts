/**
 * A host that drops what no rule accepts also drops between the ports of a bridge (br_netfilter) and from the bridge to itself. Only on
 * such a host, and only for this lab's bridge, two rules are added; they carry the bridge's name and go with the lab.
 */
import { readFileSync } from 'node:fs'
import { runProgram } from './program.js'

/** Adds the rules that are needed and missing; on a host that accepts by default it changes nothing. Gives back what it added. */
export async function openFirewall(bridge: string): Promise<string[]> {
  const added: string[] = []
  for (const chain of ['INPUT', ...(isBridgeFiltered() ? ['FORWARD'] : [])]) {
    const listed = await runProgram(['iptables', '-w', '-S', chain])
    if (listed.exitCode !== 0 || !listed.stdout.startsWith(`-P ${chain} DROP`)) continue
    const rule = buildRule(chain, bridge)
    if ((await runProgram(['iptables', '-w', '-C', ...rule])).exitCode === 0) continue
    const inserted = await runProgram(['iptables', '-w', '-I', ...rule])
    if (inserted.exitCode === 0) added.push(rule.join(' '))
  }
  return added
}

/** Removes the rules of this bridge, if there are any. */
export async function closeFirewall(bridge: string): Promise<void> {
  for (const chain of ['INPUT', 'FORWARD']) {
    const rule = buildRule(chain, bridge)
    while ((await runProgram(['iptables', '-w', '-C', ...rule])).exitCode === 0) {
      if ((await runProgram(['iptables', '-w', '-D', ...rule])).exitCode !== 0) break
    }
  }
}

function buildRule(chain: string, bridge: string): string[] {
  return [chain, '-i', bridge, ...(chain === 'FORWARD' ? ['-o', bridge] : []), '-m', 'comment', '--comment', `lichen-lab ${bridge}`, '-j', 'ACCEPT']
}

function isBridgeFiltered(): boolean {
  try {
    return readFileSync('/proc/sys/net/bridge/bridge-nf-call-iptables', 'utf8').trim() === '1'
  } catch {
    return false
  }
}
