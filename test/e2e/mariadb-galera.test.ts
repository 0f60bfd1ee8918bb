/**
 * The mariadb blueprint on real nodes: one server with data, which becomes three, and what may happen to them. Nobody does anything by hand: every step
 * that takes servers away waits until all of them are back and have all data.
 */
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { callApi } from '@lichen/demo'
import { skipReason } from '../lab/lab-fixture.js'
import { eventually } from '../eventually.js'
import { patienceMs, startCluster, step, type Cluster } from './cluster-fixture.js'

t.setTimeout(2_400_000)

const nodes = ['a', 'b', 'c']
const statusPort = 4569

/** Plans with this virtual address: a server or several of them, behind one address from the beginning. */
const planBehind = (virtualAddress: string, keepalived = true) => (count: number, settings: Readonly<Record<string, number>> = {}) => ({
  apiVersion: 'lichen.dev/v1',
  kind: 'DeploymentPlan',
  metadata: { name: 'galera' },
  nodes: [{ name: 'servers', count }],
  components: [
    { name: 'front', blueprint: 'haproxy@^1', on: 'servers', with: { virtualAddress, keepalived } },
    { name: 'db', blueprint: 'mariadb@^1', on: 'servers', with: { removeData: true, bufferPoolMb: 64, settings }, uses: { frontend: 'front' } },
  ],
})

t.test('MariaDB on one node and on three', { skip: skipReason() }, async (t) => {
  const cluster = await startCluster(t, 'e2e-galera', nodes)
  const virtualAddress = cluster.lab.node('a').address.replace(/\d+$/, '200')
  const buildPlan = planBehind(virtualAddress)
  /** The rows of what is asked of the server of a node. */
  const sql = async (node: string, text: string) => (await cluster.shell(node, `mariadb --no-defaults --batch --skip-column-names --execute="${text}"`)).trim()
  const read = (node: string) => sql(node, "SELECT GROUP_CONCAT(word ORDER BY word SEPARATOR ' ') FROM shop.words WHERE word NOT LIKE 'row%'")
  const startedAt = (node: string) => cluster.shell(node, 'systemctl show --property=ExecMainStartTimestampMonotonic,MainPID mariadb.service')
  /** Until every server takes writes, in a cluster of three. */
  const allSynced = async (t: Test) => {
    const since = Date.now()
    for (const node of nodes) {
      await eventually(t, `${node} takes writes in a cluster of three`, async () => {
        const said = await cluster.lab.exec(node, ['/usr/local/sbin/lichen-galera', 'is-settled'])
        if (said.exitCode !== 0) throw new Error(`${node}: ${said.stderr.toString()}`)
        return true
      }, { timeoutMs: patienceMs, intervalMs: 500 })
    }
    t.comment(`all synced after ${Date.now() - since} ms`)
  }
  const decisions = async (t: Test) => {
    for (const node of nodes) t.comment(`${node}: ${(await cluster.shell(node, "journalctl --boot --unit=mariadb.service --output=cat --no-pager --grep='^(waits|begins|joins) ' | tail -n 3")).trim().replaceAll('\n', ' | ')}`)
  }

  await step(t, 'one server runs without any replication', async (t) => {
    await succeed(t, cluster, 'apply', buildPlan(1))
    t.equal(await sql('a', "SHOW VARIABLES LIKE 'wsrep_on'"), 'wsrep_on\tOFF')
    t.equal(await cluster.shell('a', 'ls -d /etc/systemd/system/mariadb.service.d 2>/dev/null; true'), '')
    await sql('a', "CREATE DATABASE shop; CREATE TABLE shop.words (word VARCHAR(40) PRIMARY KEY); INSERT INTO shop.words VALUES ('alone'); CREATE USER keeper@'%' IDENTIFIED BY 'kept'")
    const before = await startedAt('a')
    await unchanged(t, cluster, buildPlan(1))
    t.equal(await startedAt('a'), before, 'the server was not restarted')
  })

  await step(t, 'an even number of servers is refused', async (t) => {
    const id = await cluster.submit('apply', buildPlan(2)).catch((error: unknown) => (error as { output: string }).output)
    const said = id.startsWith('t-') ? JSON.stringify(await cluster.ended(t, id)) : id
    t.match(said, /runs on 1, 3 or 5 nodes/)
  })

  await step(t, 'it becomes the first of three, and the others have its data and users', async (t) => {
    await succeed(t, cluster, 'apply', buildPlan(3))
    await decisions(t)
    for (const node of nodes) t.equal(await read(node), 'alone', node)
    await sql('b', "INSERT INTO shop.words VALUES ('by-b')")
    t.equal(await sql('c', "SET SESSION wsrep_sync_wait = 1; SELECT word FROM shop.words WHERE word = 'by-b'"), 'by-b')
    t.equal(await cluster.shell('a', `mariadb --no-defaults --batch --skip-column-names --host=${cluster.lab.node('c').address} --user=keeper --password=kept --execute='SELECT 1'`), '1\n', 'a user of before logs in to another server')
    t.match(JSON.parse(await cluster.shell('a', `curl --silent --fail http://${cluster.lab.node('b').address}:${statusPort}/`)), { state: 'synced', size: 3 }, 'it says so to who leads clients to it')
    t.equal(await cluster.shell('b', `mariadb --no-defaults --batch --skip-column-names --host=${virtualAddress} --user=keeper --password=kept --execute='SELECT 1'`), '1\n', 'and through the virtual address')
    t.match(await cluster.shell('a', "ss --listening --tcp --numeric --processes --no-header | grep mariadbd | awk '{print $4}' | grep ':3306$'"), new RegExp(`^${cluster.lab.node('a').address.replaceAll('.', '\\.')}:3306\n$`), 'it listens on its own address alone')
  })

  await step(t, 'a second apply changes nothing and restarts nothing', async (t) => {
    const before = await Promise.all(nodes.map(startedAt))
    await unchanged(t, cluster, buildPlan(3))
    t.same(await Promise.all(nodes.map(startedAt)), before)
  })

  await step(t, 'a new setting restarts one server after the other, and there is always one that takes writes', async (t) => {
    const before = await Promise.all(nodes.map(startedAt))
    const id = await cluster.submit('apply', buildPlan(3, { max_connect_errors: 777 }))
    let fewest = nodes.length
    for (let task = await cluster.task(id); task.state !== 'ended'; task = await cluster.task(id)) {
      const found = await Promise.all(nodes.map((node) => isOffered(cluster, node)))
      fewest = Math.min(fewest, found.filter(Boolean).length)
    }
    t.match(await cluster.ended(t, id), { outcome: 'succeeded' })
    t.comment(`at least ${fewest} of ${nodes.length} took writes`)
    t.ok(fewest >= 1, 'clients find a server')
    for (const [index, node] of nodes.entries()) t.not(await startedAt(node), before[index], `${node} was restarted`)
    for (const node of nodes) t.match(await sql(node, "SHOW VARIABLES LIKE 'max_connect_errors'"), '777')
    // all nodes have the clock of one kernel
    const away = await Promise.all(nodes.map(async (node) => (await cluster.shell(node, 'systemctl show --property=ActiveExitTimestampMonotonic --property=ActiveEnterTimestampMonotonic mariadb.service')).trim().split('\n').map((line) => Number(line.split('=')[1])).sort((one, other) => one - other)))
    away.sort(([one = 0], [other = 0]) => one - other)
    t.same(away.slice(1).filter(([stopped = 0], index) => stopped < (away[index]?.[1] ?? 0)), [], 'none was stopped while another one was away')
  })

  await step(t, 'a server that is killed comes back by itself, and the others serve', async (t) => {
    await cluster.shell('b', 'kill -9 "$(systemctl show --property=MainPID --value mariadb.service)"')
    await eventually(t, 'the others take writes', async () => (await sql('a', "REPLACE INTO shop.words VALUES ('without-b'); SELECT 1")) === '1', { timeoutMs: 60_000 })
    await allSynced(t)
    t.equal(await sql('b', "SET SESSION wsrep_sync_wait = 1; SELECT COUNT(*) FROM shop.words WHERE word = 'without-b'"), '1')
  })

  await step(t, 'all lose power at once while they are written to, and nothing that was acknowledged is lost', async (t) => {
    const written = writeOn(cluster, 'b')
    await eventually(t, 'rows are written', () => written.count() > 20, { timeoutMs: 60_000 })
    await Promise.all(nodes.map((node) => cluster.lab.kill(node)))
    await written.ended
    const since = Date.now()
    await cluster.lab.up({ nodes })
    t.comment(`the nodes were up after ${Date.now() - since} ms`)
    await allSynced(t)
    await decisions(t)
    const kept = new Set((await sql('a', "SELECT word FROM shop.words WHERE word LIKE 'row%'")).split('\n'))
    t.same(written.rows().filter((row) => !kept.has(row)), [], `of ${written.count()} rows none is missing`)
    for (const node of nodes) t.equal(await read(node), 'alone by-b without-b', node)
  })

  await step(t, 'all are rebooted at once, in order', async (t) => {
    const boots = nodes.map((node) => cluster.lab.bootId(node))
    await Promise.all(nodes.map((node) => cluster.lab.exec(node, ['systemctl', 'reboot'])))
    await eventually(t, 'all have booted again', () => nodes.every((node, index) => bootIdOf(cluster, node) !== undefined && bootIdOf(cluster, node) !== boots[index]), { timeoutMs: patienceMs, intervalMs: 500 })
    await allSynced(t)
    await decisions(t)
    for (const node of nodes) t.equal(await read(node), 'alone by-b without-b', node)
  })

  await step(t, 'two lose power, and the one that is left goes on with them when they are back', async (t) => {
    await Promise.all(['a', 'b'].map((node) => cluster.lab.kill(node)))
    await eventually(t, 'the one that is left takes no writes', async () => !(await isOffered(cluster, 'c')), { timeoutMs: 60_000 })
    await cluster.lab.up({ nodes })
    await allSynced(t)
    await decisions(t)
    for (const node of nodes) t.equal(await read(node), 'alone by-b without-b', node)
  })

  await step(t, 'the first node loses power with all others, and its disk: the others have the data', async (t) => {
    await Promise.all(nodes.map((node) => cluster.lab.kill(node)))
    const directory = join(cluster.lab.node('a').root, 'var/lib/mysql')
    for (const entry of readdirSync(directory)) rmSync(join(directory, entry), { recursive: true })
    await cluster.lab.up({ nodes })
    await allSynced(t)
    await decisions(t)
    for (const node of nodes) t.equal(await read(node), 'alone by-b without-b', node)
    await unchanged(t, cluster, buildPlan(3, { max_connect_errors: 777 }))
  })

  await step(t, 'a backup is restored on all servers, users too', async (t) => {
    const operate = async (operation: string) => {
      const { id } = await callApi<{ readonly id: string }>(cluster.server(), 'POST', '/v1/deployments/default/galera/operations', { operation, parameters: { name: 'kept' } })
      t.match(await cluster.ended(t, id), { outcome: 'succeeded' }, operation)
    }
    await operate('backup')
    await sql('b', "DELETE FROM shop.words; ALTER USER keeper@'%' IDENTIFIED BY 'changed'")
    await operate('restore')
    for (const node of nodes) {
      t.equal(await sql(node, "SET SESSION wsrep_sync_wait = 1; SELECT GROUP_CONCAT(word ORDER BY word SEPARATOR ' ') FROM shop.words WHERE word NOT LIKE 'row%'"), 'alone by-b without-b', node)
      t.equal(await cluster.shell('a', `mariadb --no-defaults --batch --skip-column-names --host=${cluster.lab.node(node).address} --user=keeper --password=kept --execute='SELECT 1'`), '1\n', `${node} has the password of then`)
    }
    await unchanged(t, cluster, buildPlan(3, { max_connect_errors: 777 }))
  })

  await step(t, 'two leave, while they are written to, and the one that stays has all', async (t) => {
    const written = writeOn(cluster, 'c')
    await eventually(t, 'rows are written', () => written.count() > 5, { timeoutMs: 60_000 })
    await succeed(t, cluster, 'apply', buildPlan(1, { max_connect_errors: 777 }))
    await written.ended
    const kept = new Set((await sql('a', "SELECT word FROM shop.words WHERE word LIKE 'row%'")).split('\n'))
    t.same(written.rows().filter((row) => !kept.has(row)), [], `of ${written.count()} rows none is missing`)
    t.equal(await read('a'), 'alone by-b without-b')
    t.equal(await sql('a', "SHOW VARIABLES LIKE 'wsrep_on'"), 'wsrep_on\tOFF')
    for (const node of ['b', 'c']) t.equal(await cluster.shell(node, left), '', `${node} is clean`)
    await unchanged(t, cluster, buildPlan(1, { max_connect_errors: 777 }))
  })

  await step(t, 'they come back, and have what was written without them', async (t) => {
    await sql('a', "INSERT INTO shop.words VALUES ('single')")
    await succeed(t, cluster, 'apply', buildPlan(3))
    for (const node of nodes) t.equal(await read(node), 'alone by-b single without-b', node)
  })

  const givenAddress = planBehind(virtualAddress, false)
  const addressOf = (node: string) => cluster.shell(node, `ip -oneline -4 address show to ${virtualAddress}/32`)
  await step(t, 'something else may lead the address to a node: keepalived gives it up', async (t) => {
    const id = await cluster.submit('apply', givenAddress(3))
    await eventually(t, 'no node has it', async () => (await Promise.all(nodes.map(addressOf))).join('') === '', { timeoutMs: patienceMs, intervalMs: 100 })
    await cluster.shell('b', `ip address add ${virtualAddress}/32 dev "$(ip -oneline -4 address show to ${cluster.lab.node('b').address}/32 | awk '{ print $2; exit }')"`)
    t.match(await cluster.ended(t, id), { outcome: 'succeeded' })
    for (const node of nodes) t.equal(await cluster.shell(node, `dpkg-query --show --showformat='\${Status}\n' keepalived 2>/dev/null | grep -v not-installed; ls -d /etc/keepalived /usr/local/sbin/lichen-address-left 2>/dev/null; pgrep keepalived; true`), '', `${node} has nothing of it`)
    t.equal(await cluster.shell('a', `mariadb --no-defaults --batch --skip-column-names --host=${virtualAddress} --user=keeper --password=kept --execute='SELECT 1'`), '1\n')
    await unchanged(t, cluster, givenAddress(3))
  })

  await step(t, 'destroy leaves clean nodes, and an address that is looked after by others', async (t) => {
    await cluster.shell('c', 'mkdir /etc/keepalived && echo "# of somebody else" >/etc/keepalived/keepalived.conf')
    await succeed(t, cluster, 'destroy', givenAddress(3))
    for (const node of nodes) t.equal(await cluster.shell(node, left), '', `${node} is clean`)
    t.match(await addressOf('b'), virtualAddress)
    t.equal(await cluster.shell('c', 'cat /etc/keepalived/keepalived.conf'), '# of somebody else\n')
  })
})

/** What of it is left on a node. */
const left = `dpkg-query --show --showformat='\${Status} \${Package}\\n' 'mariadb-server*' galera-4 2>/dev/null | grep -v not-installed
  systemctl list-unit-files --no-legend 'mariadb*' 'lichen-galera*'
  ls -d /var/lib/mysql /etc/mysql/mariadb.conf.d/9*-lichen* /etc/systemd/system/mariadb.service.d /usr/local/sbin/lichen-galera /run/mysqld/lichen* 2>/dev/null
  ss --listening --tcp --numeric --no-header | awk '{print $4}' | grep -E ':(3306|4444|4567|4568|${statusPort})$'
  true`

/** Rows written one after the other on a node, until its server takes no more; those are told that it acknowledged. */
function writeOn(cluster: Cluster, node: string): { readonly count: () => number; readonly rows: () => readonly string[]; readonly ended: Promise<void> } {
  const rows: string[] = []
  const prefix = `row-${node}-${Date.now()}`
  const write = async (): Promise<void> => {
    for (let number = 0; ; number += 1) {
      const row = `${prefix}-${number}`
      const result = await cluster.lab.exec(node, ['mariadb', '--no-defaults', `--execute=INSERT INTO shop.words VALUES ('${row}')`]).catch(() => undefined)
      if (result?.exitCode !== 0) return
      rows.push(row)
    }
  }
  return { count: () => rows.length, rows: () => rows, ended: write() }
}

/** Whether who leads clients to servers would lead them to this node's. */
async function isOffered(cluster: Cluster, node: string): Promise<boolean> {
  return (await cluster.lab.exec('c', ['curl', '--silent', '--fail', '--max-time', '8', '--output', '/dev/null', `http://${cluster.lab.node(node).address}:${statusPort}/`])).exitCode === 0
}

function bootIdOf(cluster: Cluster, node: string): string | undefined {
  try {
    return cluster.lab.bootId(node)
  } catch {
    return undefined
  }
}

async function succeed(t: Test, cluster: Cluster, kind: 'apply' | 'destroy', plan: unknown): Promise<string> {
  const id = await cluster.submit(kind, plan)
  const task = await cluster.ended(t, id, 600_000)
  await cluster.tell(t, id)
  t.match(task, { outcome: 'succeeded' }, `${kind} succeeds`)
  t.comment(`${kind} took ${task.timing.durationMs} ms`)
  return id
}

async function unchanged(t: Test, cluster: Cluster, plan: unknown): Promise<void> {
  const task = await succeed(t, cluster, 'apply', plan)
  const changed = (await cluster.actions(task)).filter((action) => !action.id.startsWith('lichen/')).flatMap((action) => action.result?.commands ?? []).filter((command) => command.changed)
  t.same(changed.map((command) => command.name), [], 'nothing had to change')
}
