import { readdirSync } from 'node:fs'
import t from 'tap'
import { buildLabNames, buildLinkName, buildMirror, buildNodeNames, buildSourcesList, chooseNetworkAmong, openLab, readLastLines, replaceHostsBlock } from '@lichen/lab'
import { makeDirectory } from './lab-fixture.js'

void t.test('a network overlaps nothing that the host uses', (t) => {
  const first = chooseNetworkAmong([], 'seed')
  t.match(first, /^10\.\d+\.\d+$/)
  t.equal(chooseNetworkAmong([], 'seed'), first, 'the same lab gets the same network')
  t.not(chooseNetworkAmong([`${first}.0/24`], 'seed'), first)
  t.not(chooseNetworkAmong([`${first}.77`], 'seed'), first, 'a single address counts')
  t.match(chooseNetworkAmong(['10.0.0.0/8'], 'seed'), /^172\.(1[6-9]|2\d|3[01])\./, 'a host that routes all of 10/8')
  t.match(chooseNetworkAmong(['10.0.0.0/8', '172.16.0.0/12'], 'seed'), /^192\.168\./)
  t.throws(() => chooseNetworkAmong(['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16'], 'seed'), { code: 'LAB_NETWORK' })
  t.match(chooseNetworkAmong(['default'], 'seed'), /^10\./, 'a default route is no use of an address')
  t.end()
})

void t.test('interface names of the last possible node fit into 15 characters', (t) => {
  const lab = buildLabNames('/var/lib/lichen-lab', 'a-lab-with-a-name-of-32-letters-')
  t.ok(lab.bridge.length <= 15)
  t.ok(buildNodeNames(lab, 'node-244', 9999).veth.length <= 15)
  t.ok(buildLinkName(lab, 9999, 99).length <= 15)
  t.not(buildLabNames('/a', 'x').id, buildLabNames('/b', 'x').id, 'labs of the same name in two directories do not collide')
  t.end()
})

void t.test("the block of lab nodes in a hosts file is replaced, the node's own lines stay", (t) => {
  const node = (name: string, index: number) => ({ name, index, address: `10.1.2.${index + 10}`, isPrivileged: false })
  const first = replaceHostsBlock('127.0.0.1 localhost\n', [node('node-1', 1)])
  const second = replaceHostsBlock(`${first}192.0.2.9 mine\n`, [node('node-1', 1), node('node-2', 2)])
  t.same(second.split('\n').filter((line) => /^\d/.test(line)), ['127.0.0.1 localhost', '192.0.2.9 mine', '10.1.2.11 node-1', '10.1.2.12 node-2'])
  t.equal(replaceHostsBlock(second, [node('node-1', 1), node('node-2', 2)]), second, 'once more changes nothing')
  t.end()
})

void t.test("the nodes' apt sources are the host's, https through the cache", (t) => {
  const host = [
    { site: 'https://packages.example', codename: 'stable', label: 'Example' },
    { site: 'https://mirror.example/debian', codename: 'bookworm', label: 'Debian' },
    { site: 'http://mirror.example/debian-security', codename: 'bookworm-security', label: 'Debian-Security' },
  ]
  t.equal(
    buildSourcesList(buildMirror(host)),
    'deb http://HTTPS///mirror.example/debian bookworm main\ndeb http://mirror.example/debian-security bookworm-security main\n',
  )
  const trixie = [{ site: 'http://mirror.example/debian', codename: 'trixie', label: 'Debian' }]
  t.equal(buildSourcesList(buildMirror(trixie)), 'deb http://mirror.example/debian bookworm main\n', 'a newer host has the same archive')
  t.throws(() => buildMirror([]), { code: 'LAB_MIRROR' })
  t.throws(() => buildMirror([{ site: 'file:/srv/debian', codename: 'bookworm', label: 'Debian' }]), { code: 'LAB_MIRROR', message: /file:\/srv\/debian/ })
  t.end()
})

void t.test('names that could leave the directory or break a host name are refused', (t) => {
  for (const name of ['', '..', 'a/b', 'Upper', '-a', 'a'.repeat(33)]) {
    t.throws(() => openLab({ name, directory: '/nowhere', cacheDirectory: '/nowhere' }), { code: 'LAB_BAD_OPTION' }, `"${name}"`)
  }
  t.end()
})

void t.test('links that the kernel, ifupdown or nspawn would not take are refused before anything is made', async (t) => {
  const directory = makeDirectory(t)
  const lab = openLab({ name: 'links', directory, cacheDirectory: '/nowhere' })
  for (const link of ['', 'host0', 'lo', 'all', 'default', 'Prov0', '0prov', 'prov 0', 'prov/0', 'prov:0', 'prov.0', '..', 'p'.repeat(16)]) {
    await t.rejects(lab.up({ nodes: 1, links: ['prov0', link] }), { code: 'LAB_BAD_OPTION', message: new RegExp(`^link name "${link}": `) }, `"${link}"`)
  }
  await t.rejects(lab.up({ nodes: 1, links: Array.from({ length: 10 }, (_, i) => `prov${i}`) }), { code: 'LAB_BAD_OPTION', message: /10 of them/ })
  await t.rejects(lab.up({ nodes: 0 }), { code: 'LAB_BAD_OPTION' })
  t.same(readdirSync(directory), [])
})

void t.test('the end of a console is one line without control characters', (t) => {
  t.equal(readLastLines('one\r\r\n\u001b[0;32m  OK  \u001b[0m] two\r\r\n\r\n[ \u001b[31m*\u001b[0m ] three\r\u001b[K[ ** ] four\u0007\r\n'), 'OK  ] two | [ * ] three | [ ** ] four')
  t.equal(readLastLines('\r\n'), '')
  t.end()
})
