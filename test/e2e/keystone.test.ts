/**
 * The main job on real nodes with everything going wrong at once: Keystone from a plan sent over REST, while the agent is killed in the middle of an
 * installation, the server in the middle of the task and a node rebooted in the middle of a command. One deployment carries all of it, because
 * installing is what takes the time.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { callApi, runInNode, waitForNodes } from '@lichen/demo'
import { eventually } from '../eventually.js'
import { skipReason } from '../lab/lab-fixture.js'
import { checkout, patienceMs, startCluster, step, type Cluster } from './cluster-fixture.js'
import { readWholeLog, startLogReader } from './log-reader.js'

interface PlanDocument {
  readonly components: { readonly name: string; with?: Record<string, unknown> }[]
}

const planText = readFileSync(join(checkout, 'examples/keystone.yaml'), 'utf8')

t.setTimeout(900_000)

t.test('Keystone from a plan, through every fault', { skip: skipReason() }, async (t) => {
  const cluster = await startCluster(t, 'e2e', ['data', 'control'])

  await step(t, 'a task whose agent, server and node are killed under it succeeds, and its live log has no hole', (t) => installThroughFaults(t, cluster))

  await step(t, 'the stock client gets a token and the endpoints', async (t) => {
    const token = JSON.parse(await cluster.shell('control', '. /root/openrc && openstack token issue -f json')) as Record<string, string>
    t.match(token, { id: /^gAAAA/, expires: /^\d{4}-/, project_id: /^[0-9a-f]{32}$/, user_id: /^[0-9a-f]{32}$/ })
    const endpoints = JSON.parse(await cluster.shell('control', '. /root/openrc && openstack endpoint list -f json')) as Record<string, string>[]
    const url = `http://${cluster.lab.node('control').address}:5000/v3/`
    t.same(endpoints.map((endpoint) => [endpoint['Interface'], endpoint['Region'], endpoint['Service Type'], endpoint['URL']]).sort(), ['admin', 'internal', 'public'].map((name) => [name, 'RegionOne', 'identity', url]))
  })

  await step(t, 'a client is told that a connection is not kept, after an answer without a body too', async (t) => {
    const answers = await cluster.shell('control', `. /root/openrc && export TOKEN=$(openstack token issue -f value -c id) && python3 - <<'END'
import http.client, os
for method in 'HEAD', 'GET':
    connection = http.client.HTTPConnection('${cluster.lab.node('control').address}', 5000)
    connection.request(method, '/v3/auth/tokens', headers={'X-Auth-Token': os.environ['TOKEN'], 'X-Subject-Token': os.environ['TOKEN']})
    answer = connection.getresponse()
    size = len(answer.read())
    print(method, answer.status, answer.getheader('Content-Length') == str(size) if method == 'GET' else size, 'closed' if connection.sock is None else 'kept')
END`)
    t.equal(answers, 'HEAD 200 0 closed\nGET 200 True closed\n')
  })

  await step(t, 'applying the same plan again changes nothing', async (t) => {
    const id = await cluster.submit('apply', planText)
    const startedAt = Date.now()
    t.match(await cluster.ended(t, id), { outcome: 'succeeded' })
    t.comment(`the second apply took ${Date.now() - startedAt} ms`)
    t.same(changedCommands(await cluster.actions(id)), [])
  })

  await step(t, 'a check task shows what was changed by hand, without its secrets, and an apply puts it right', (t) => repairDrift(t, cluster))

  await step(t, 'all secrets are rotated: the new ones are used at once, the old ones are refused', (t) => rotateSecrets(t, cluster))

  await step(t, 'identities are made by one command, found when they were changed by hand, and taken away', (t) => keepIdentities(t, cluster))

  await step(t, 'a backup of the databases brings back what was deleted since', (t) => restoreBackup(t, cluster))

  await step(t, 'a database that refuses is told with its cause, and an apply puts it right', (t) => refuseDatabase(t, cluster))

  await step(t, 'a version that does not exist and a mirror that does not answer are named, and nothing is installed', (t) => refusePackage(t, cluster))

  await step(t, 'a package that does not exist fails by its name, and a retry succeeds once it does', (t) => installMissingPackage(t, cluster))

  await step(t, 'no password is in logs, results or events, and the files that hold one are private', async (t) => {
    const password = (await cluster.shell('control', 'sed -n "s/^export OS_PASSWORD=//p" /root/openrc')).trim()
    const databasePassword = (await cluster.shell('control', 'sed -n "s#^connection = .*keystone:\\([^@]*\\)@.*#\\1#p" /etc/keystone/keystone.conf')).trim()
    t.match(password, /^[A-Za-z0-9]{32}$/)
    t.match(databasePassword, /^[A-Za-z0-9]{32}$/)
    const { items } = await callApi<{ readonly items: readonly { readonly id: string }[] }>(cluster.server(), 'GET', '/v1/tasks')
    for (const { id } of items) {
      const everything = JSON.stringify([await readWholeLog(cluster.server(), id), await cluster.actions(id), await callApi(cluster.server(), 'GET', `/v1/tasks/${id}/events?limit=1000`)])
      t.notOk(everything.includes(password) || everything.includes(databasePassword), `task ${id} shows no password`)
    }
    t.equal(await cluster.shell('control', 'stat -c "%a %U:%G" /root/openrc /etc/keystone/keystone.conf /etc/keystone/lichen-check.json'), '600 root:root\n640 root:keystone\n600 root:root\n')
  })

  await step(t, 'destroy leaves clean nodes, and can be repeated', (t) => destroyAll(t, cluster))
})

async function installThroughFaults(t: Test, cluster: Cluster): Promise<void> {
  const id = await cluster.submit('apply', planText)
  const reader = startLogReader(cluster.server(), id)
  t.teardown(() => reader.stop())

  await cluster.running(t, 'control', 'dpkg.*--unpack')
  await cluster.shell('control', 'systemctl kill --kill-who=main --signal=KILL lichen-agent.service')
  t.comment('the agent on control was killed while dpkg unpacked')

  await cluster.running(t, 'control', 'dpkg.*--(unpack|configure)')
  await cluster.killAndRestartServer()
  t.comment('the server was killed and started again while control installed')

  await cluster.running(t, 'control', 'keystone-manage db_sync$')
  const bootId = cluster.lab.bootId('control')
  await cluster.lab.reboot('control')
  t.not(cluster.lab.bootId('control'), bootId)
  t.comment('control was rebooted while it made the database schema')

  t.match(await cluster.ended(t, id), { outcome: 'succeeded' })
  const actions = await cluster.actions(id)
  t.same(actions.filter((action) => action.state !== 'succeeded'), [])
  const events = (await callApi<{ readonly items: readonly { readonly event: { readonly type: string; readonly epoch?: number } }[] }>(cluster.server(), 'GET', `/v1/tasks/${id}/events?limit=1000`)).items
  t.ok(events.filter(({ event }) => event.type === 'taskClaimed').length >= 2, 'the new server took the task over')

  const whole = await readWholeLog(cluster.server(), id)
  await eventually(t, 'the live reader has the last line', () => reader.records.length >= whole.length, { timeoutMs: 30_000 })
  await reader.stop()
  t.ok(reader.reconnections >= 1, 'the live reader lost its connection with the server')
  t.same(reader.records.map(lineOf), whole.map(lineOf), 'the log that was read live is the log')
  t.ok(whole.length > 300, `the log has ${whole.length} lines`)
  const settled = (action: RegExp) => whole.some((record) => action.test(record.action) && record.text.includes('interrupted before: settled by its check'))
  t.ok(settled(/packages@control$/), 'the installation that the agent was killed in was settled by its check')
  t.ok(settled(/^keystone\/schema@control$/), 'the schema that the node was rebooted in was settled by its check')
}

async function repairDrift(t: Test, cluster: Cluster): Promise<void> {
  await cluster.shell('control', 'sed -i "s/^processes = .*/processes = 5/" /etc/keystone/keystone-uwsgi.ini && sed -i "s#://keystone:[^@]*@#://keystone:changed-by-hand@#" /etc/keystone/keystone.conf')
  await cluster.shell('data', `mariadb --execute="ALTER USER keystone@'%' IDENTIFIED BY 'by-hand'" && systemctl stop memcached`)
  const checkId = await cluster.submit('check', planText)
  t.match(await cluster.ended(t, checkId), { outcome: 'succeeded' })
  const found = changedCommands(await cluster.actions(checkId))
  const byName = new Map(found.map((command) => [command.name, command]))
  t.match(byName.get('write the configuration of uwsgi')?.diff, /^-processes = 5\n\+processes = 2$/m)
  t.match(byName.get('write keystone.conf')?.diff, /^-connection = \(not shown\)\n\+connection = mysql.*:\*\*\*@/m, 'of the file with the password it is said which option that is')
  t.notMatch(byName.get('write keystone.conf')?.diff, /changed-by-hand/)
  t.match(byName.get('run the server')?.diff, /memcached\.service: inactive → running/)
  t.ok(byName.has('create database keystone and user keystone'), 'a password that does not fit any more is found by logging in with it')
  t.match(await cluster.shell('control', 'grep ^processes /etc/keystone/keystone-uwsgi.ini'), 'processes = 5', 'the check itself changed nothing')

  const startedAt = await cluster.shell('control', 'systemctl show --property=ExecMainStartTimestampMonotonic keystone.service')
  const applyId = await cluster.submit('apply', planText)
  t.match(await cluster.ended(t, applyId), { outcome: 'succeeded' })
  t.same(changedCommands(await cluster.actions(applyId)).map((command) => command.name).sort(), ['create database keystone and user keystone', 'run the server', 'run the service', 'write keystone.conf', 'write the configuration of uwsgi'])
  t.not(await cluster.shell('control', 'systemctl show --property=ExecMainStartTimestampMonotonic keystone.service'), startedAt, 'the service was restarted with its files')
  await cluster.shell('control', '. /root/openrc && openstack token issue -f value -c id')
}

async function rotateSecrets(t: Test, cluster: Cluster): Promise<void> {
  const read = async () => ({
    admin: (await cluster.shell('control', 'sed --quiet "s/^export OS_PASSWORD=//p" /root/openrc')).trim(),
    database: (await cluster.shell('control', 'sed --quiet "s#^connection = .*keystone:\\([^@]*\\)@.*#\\1#p" /etc/keystone/keystone.conf')).trim(),
  })
  const before = await read()
  const path = '/v1/deployments/default/keystone/secrets'
  const { items } = await callApi<{ readonly items: readonly { readonly name: string; readonly version: number }[] }>(cluster.server(), 'GET', path)
  t.same(items.map(({ version }) => version), items.map(() => 1))
  const { id } = await callApi<{ readonly id: string }>(cluster.server(), 'POST', `${path}/rotate`, {})
  t.match(await cluster.ended(t, id), { outcome: 'succeeded' })
  const after = await read()
  t.match(after, { admin: /^[A-Za-z0-9]{32}$/, database: /^[A-Za-z0-9]{32}$/ })
  t.not(after.admin, before.admin)
  t.not(after.database, before.database)
  t.match(await cluster.shell('control', '. /root/openrc && openstack token issue -f value -c expires'), /^\d{4}-/)
  const login = await cluster.lab.exec('control', ['bash', '-c', `. /root/openrc && OS_PASSWORD=${before.admin} openstack token issue`])
  t.match(String(login.stderr), /401/, 'the old password of the administrator is refused')
  const query = await cluster.lab.exec('data', ['mariadb', '--no-defaults', '--protocol=tcp', `--host=${cluster.lab.node('data').address}`, '--user=keystone', `--password=${before.database}`, '--execute=SELECT 1'])
  t.match(String(query.stderr), /Access denied/, 'and so is that of the database')
  const everything = JSON.stringify([await readWholeLog(cluster.server(), id), await cluster.actions(id), await callApi(cluster.server(), 'GET', `/v1/tasks/${id}/events?limit=1000`)])
  t.notOk([...Object.values(before), ...Object.values(after)].some((secret) => everything.includes(secret)), 'neither old nor new ones are told')
  const again = await cluster.submit('apply', planText)
  t.match(await cluster.ended(t, again), { outcome: 'succeeded' })
  t.same(changedCommands(await cluster.actions(again)), [])
}

/** The `openstack` kind of command against a real Keystone, seen by the stock client. */
async function keepIdentities(t: Test, cluster: Cluster): Promise<void> {
  const plan = parse(planText) as PlanDocument & { components: object[] }
  plan.components.push({ name: 'cloud', blueprint: 'e2e-identities', on: 'control', uses: { identity: 'keystone' } })
  const client = (...commands: string[]) => cluster.shell('control', `. /root/openrc && openstack <<'END'\n${commands.join('\n')}\nEND`)
  const login = '. /root/openrc && OS_USERNAME=e2e-glance OS_PASSWORD="$(cat /root/e2e-glance)" OS_PROJECT_NAME=e2e-service openstack token issue -f value -c expires'

  const made = await cluster.submit('apply', plan)
  t.match(await cluster.ended(t, made), { outcome: 'succeeded' })
  const [command] = (await cluster.actions(made)).find((action) => action.id === 'cloud/identities@control')?.result?.commands ?? []
  t.comment(command?.diff)
  t.match(command?.diff, /^\+ domain e2e-heat.*\n\+ project e2e-service.*\n(.*\n)*\+ endpoint of image, admin/)
  t.match(await cluster.shell('control', login), /^\d{4}-/, 'the user gets a token in its project')
  const endpoints = await client('endpoint list --service image -f csv --quote none -c Region -c Interface -c URL')
  for (const name of ['admin', 'internal', 'public']) t.match(endpoints, `RegionOne,${name},http://192.0.2.1:9292`)
  const roles = await client('role assignment list --names -f csv --quote none')
  for (const line of ['admin,e2e-glance@Default,,e2e-service@Default,', 'admin,e2e-keeper@e2e-heat,,,e2e-heat,', 'e2e-member,e2e-glance@Default,,,,all']) t.match(roles, line)

  const again = await cluster.submit('apply', plan)
  t.match(await cluster.ended(t, again), { outcome: 'succeeded' })
  t.same(changedCommands(await cluster.actions(again)), [])

  await client('user set --password by-hand-and-wrong --email hand@example.org e2e-glance', 'role remove --user e2e-glance --project e2e-service admin', 'project set --disable e2e-service')
  await cluster.shell('control', `. /root/openrc && openstack endpoint set --url http://192.0.2.9:9292 "$(openstack endpoint list --service image --interface public -f value -c ID)"`)
  const check = await cluster.submit('check', plan)
  t.match(await cluster.ended(t, check), { outcome: 'succeeded' })
  const [drift] = changedCommands(await cluster.actions(check))
  t.equal(
    drift?.diff,
    [
      '  project e2e-service:', '- enabled: false', '+ enabled: true',
      '  user e2e-glance:', '- email: "hand@example.org"', '+ email: "glance@example.org"', '  password: no token is given for the one asked for',
      '+ grant of admin to user e2e-glance on project e2e-service',
      '  endpoint of image, public, in region RegionOne:', '- url: "http://192.0.2.9:9292"', '+ url: "http://192.0.2.1:9292"',
    ].join('\n'),
  )
  const repair = await cluster.submit('apply', plan)
  t.match(await cluster.ended(t, repair), { outcome: 'succeeded' })
  t.match(await cluster.shell('control', login), /^\d{4}-/)
  const password = (await cluster.shell('control', 'cat /root/e2e-glance')).trim()
  for (const id of [made, check, repair]) t.notOk(JSON.stringify([await readWholeLog(cluster.server(), id), await cluster.actions(id)]).includes(password), 'the password is not shown')

  // Keystone makes as many services of one type as it is asked for.
  await client('service create --name e2e-second image')
  const twice = await cluster.submit('apply', plan)
  t.match(await cluster.ended(t, twice), { outcome: 'failed' })
  t.match(JSON.stringify(await cluster.actions(twice)), /COMMAND_OPENSTACK_AMBIGUOUS.*there are 2 of service type image: [0-9a-f]{32}, [0-9a-f]{32}/)
  await client('service delete e2e-second')

  t.match(await cluster.ended(t, await cluster.submit('apply', planText)), { outcome: 'succeeded' }, 'the component is dropped from the plan')
  const left = await client('domain list', 'project list', 'user list', 'role list', 'service list', 'endpoint list')
  t.notMatch(left, /e2e-|192\.0\.2/)
}

async function restoreBackup(t: Test, cluster: Cluster): Promise<void> {
  const operate = async (operation: string, name: string) => {
    const { id } = await callApi<{ readonly id: string }>(cluster.server(), 'POST', '/v1/deployments/default/keystone/operations', { operation, parameters: { name }, components: ['db'] })
    return await cluster.ended(t, id)
  }
  const listProjects = () => cluster.shell('control', '. /root/openrc && openstack project list -f value -c Name')
  await cluster.shell('control', '. /root/openrc && openstack project create kept')
  t.match(await operate('backup', 'first'), { outcome: 'succeeded' })
  t.equal((await cluster.shell('data', "stat --format='%a %U' /var/backups/lichen-mariadb /var/backups/lichen-mariadb/first.sql.gz")).trim(), '700 root\n600 root')
  await cluster.shell('control', '. /root/openrc && openstack project delete kept && openstack project create later')
  t.match(await operate('restore', 'none'), { outcome: 'failed' }, 'one that is not there')
  t.match(await listProjects(), /later/, 'changed nothing')
  t.match(await operate('restore', 'first'), { outcome: 'succeeded' })
  const projects = await listProjects()
  t.match(projects, /kept/)
  t.notMatch(projects, /later/)
  await cluster.shell('control', '. /root/openrc && openstack project delete kept')
  const again = await cluster.submit('apply', planText)
  t.match(await cluster.ended(t, again), { outcome: 'succeeded' })
  t.same(changedCommands(await cluster.actions(again)), [], 'the passwords are those of then')
}

async function refuseDatabase(t: Test, cluster: Cluster): Promise<void> {
  await cluster.shell('data', `mariadb --no-defaults --execute "ALTER USER 'keystone'@'%' ACCOUNT LOCK" && systemctl restart mariadb.service`)
  const id = await cluster.submit('check', planText)
  t.match(await cluster.ended(t, id), { outcome: 'succeeded' }, 'what differs is no failure of a look')
  const actions = await cluster.actions(id)
  const differenceOf = (action: string): string | undefined => actions.find(({ id }) => id === action)?.result?.commands.map(({ diff }) => diff ?? '').join('\n')
  t.match(differenceOf('keystone/check@control'), /last in its journal: .*Access denied, this account is locked/, 'the operator is told what the database said')
  t.equal(actions.find(({ id }) => id === 'db/grant:keystone.database@data')?.result?.changed, true, 'and which action would put it right')
  const again = await cluster.submit('apply', planText)
  t.match(await cluster.ended(t, again), { outcome: 'succeeded' })
}

/** One package on the node `data`. */
const buildPackagePlan = (name: string, wanted: string) => ({
  apiVersion: 'lichen.dev/v1',
  kind: 'DeploymentPlan',
  metadata: { name },
  nodes: [{ name: 'one', select: { role: 'data' } }],
  components: [{ name: 'later', blueprint: 'e2e-package', on: 'one', with: { package: wanted } }],
})

async function refusePackage(t: Test, cluster: Cluster): Promise<void> {
  const isThere = async () => (await cluster.shell('data', `dpkg-query --show --showformat='\${db:Status-Status}' tree 2>/dev/null || true`)).trim()
  const refuse = async (wanted: string) => {
    const id = await cluster.submit('apply', buildPackagePlan('refused', wanted))
    t.match(await cluster.ended(t, id), { outcome: 'failed' })
    t.equal(await isThere(), '', 'nothing of it is there')
    return (await cluster.actions(id))[0]?.result?.failure
  }
  t.match(await refuse('tree=99.9-none'), { code: 'COMMAND_PACKAGE_UNKNOWN', message: /tree=99\.9-none/ })
  const sources = '/etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d'
  await cluster.shell('data', `mkdir /root/kept && cp --archive ${sources} /root/kept/ && rm --force /var/cache/apt/archives/*.deb
    grep --recursive --files-with-matches --extended-regexp 'https?://' ${sources} | xargs sed --in-place --regexp-extended 's#https?://[^/ ";]+#http://127.0.0.1:9#'`)
  t.match(await refuse('tree'), { code: 'COMMAND_REPOSITORY_UNREACHABLE', message: /127\.0\.0\.1:9/ }, 'a mirror that does not answer')
  await cluster.shell('data', `rm --recursive --force ${sources} && cp --archive /root/kept/* /etc/apt/ && rm --recursive /root/kept`)
  const plan = buildPackagePlan('refused', 'tree')
  t.match(await cluster.ended(t, await cluster.submit('apply', plan)), { outcome: 'succeeded' })
  t.match(await cluster.ended(t, await cluster.submit('destroy', plan)), { outcome: 'succeeded' })
  t.not(await isThere(), 'installed', 'and it leaves again')
}

async function installMissingPackage(t: Test, cluster: Cluster): Promise<void> {
  const plan = buildPackagePlan('missing', 'lichen-e2e-later')
  const id = await cluster.submit('apply', plan)
  t.match(await cluster.ended(t, id), { outcome: 'failed' })
  const [failed] = await cluster.actions(id)
  t.match(failed?.result?.failure?.message, /lichen-e2e-later/)
  await cluster.shell('data', publishPackage)
  await callApi(cluster.server(), 'POST', `/v1/tasks/${id}/retry`)
  t.match(await cluster.ended(t, id), { outcome: 'succeeded' })
  t.match(await cluster.shell('data', 'dpkg-query --show lichen-e2e-later'), /^lichen-e2e-later\t1$/m)
  t.match(await cluster.ended(t, await cluster.submit('destroy', plan)), { outcome: 'succeeded' })
  await cluster.shell('data', '! dpkg-query --show lichen-e2e-later 2>/dev/null')
}

/** A repository of one package on the node itself. */
const publishPackage = `set -e
mkdir -p /srv/later/root/DEBIAN; cd /srv/later
printf 'Package: lichen-e2e-later\\nVersion: 1\\nArchitecture: all\\nMaintainer: Lichen <root@localhost>\\nDescription: comes later\\n' > root/DEBIAN/control
dpkg-deb --build root later.deb >/dev/null
{ cat root/DEBIAN/control; echo "Filename: ./later.deb"; echo "Size: $(stat -c %s later.deb)"; echo "SHA256: $(sha256sum later.deb | cut -d ' ' -f 1)"; } > Packages
echo 'deb [trusted=yes] file:/srv/later ./' > /etc/apt/sources.list.d/later.list
apt-get update -q >/dev/null`

async function destroyAll(t: Test, cluster: Cluster): Promise<void> {
  const plan = parse(planText) as PlanDocument
  for (const component of plan.components) if (['db', 'keystone'].includes(component.name)) component.with = { ...component.with, removeData: true }
  t.match(await cluster.ended(t, await cluster.submit('destroy', plan)), { outcome: 'succeeded' })
  const left = `dpkg-query --show --showformat='\${Status} \${Package}\\n' 'mariadb-server*' memcached keystone python3-keystone 2>/dev/null | grep -v not-installed
    systemctl list-unit-files --no-legend 'mariadb*' 'memcached*' 'keystone*'
    ls -d /var/lib/mysql /etc/mysql/mariadb.conf.d/90-lichen.cnf /etc/memcached.conf /etc/keystone /etc/default/keystone /var/lib/keystone /var/log/keystone /usr/local/sbin/lichen-* /root/openrc 2>/dev/null
    ss --listening --tcp --numeric --no-header | awk '{print $4}' | grep -E ':(3306|11211|5000)$'
    true`
  for (const node of ['data', 'control']) t.equal(await runInNode(cluster.lab, node, ['bash', '-c', left]), '', `nothing is left on ${node}`)
  t.match(await cluster.ended(t, await cluster.submit('destroy', plan)), { outcome: 'succeeded' }, 'a second destroy has nothing to do and says so')
  await waitForNodes(cluster.server(), ['data', 'control'], patienceMs)
}

// What verifies unchanged actions says what would change, and changes nothing.
const changedCommands = (actions: Awaited<ReturnType<Cluster['actions']>>) => actions.filter((action) => !action.id.startsWith('lichen/')).flatMap((action) => action.result?.commands ?? []).filter((command) => command.changed)

const lineOf = (record: { readonly offset: number; readonly node: string; readonly action: string; readonly text: string }): string => `${record.offset} ${record.node} ${record.action} ${record.text}`
