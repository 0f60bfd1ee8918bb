import t from 'tap'
import { buildStandIn } from '@lichen/core'
import { buildRandom, type Random } from '../../simulation/random.js'
import { Masker } from '../../packages/agent/dist/output/masker.js'
import { buildPrivateDiff } from '../../packages/agent/dist/primitives/private-diff.js'

const current = 'NewPassword0123456789'
/** No order knows it: from before a rotation, or set by a person. */
const old = 'oldPassw0rdOfNobody'

const wanted = `# made by a plan
[DEFAULT]
debug = false
workers = 2
transport_url = rabbit://nova:${current}@10.0.0.1:5672/nova

[database]
connection = mysql+pymysql://nova:${current}@10.0.0.1/nova
pool = 5
target = ${current}

[keystone_authtoken]
auth_type = password
auth_url = http://10.0.0.1:5000
send_token = true
target = public
servers =
  10.0.0.2
  10.0.0.3
password = ${current}
`

const diffOf = (present: string, content = wanted, secrets: readonly string[] = [current]): Promise<string | undefined> => buildPrivateDiff('/etc/x.conf', present, content, new Masker(secrets))
/** The lines of a diff that were added or taken away. */
const changesOf = (diff: string | undefined): string[] => (diff ?? '').split('\n').filter((line) => /^[-+](?![-+])/.test(line))
const replace = (from: string, to: string): string => {
  if (!wanted.includes(from)) throw new Error(`the wanted content has no ${from}`)
  return wanted.replace(from, () => to)
}

t.test('what differs is shown when it cannot be a secret', async (t) => {
  t.equal(await diffOf(replace('workers = 2', 'workers = 7')), `--- /etc/x.conf\n+++ /etc/x.conf\n@@ -1,7 +1,7 @@\n # made by a plan\n [DEFAULT]\n debug = false\n-workers = 7\n+workers = 2\n transport_url = rabbit://nova:***@10.0.0.1:5672/nova\n \n [database]\n`)
  const shown: Record<string, readonly [present: string, changes: readonly string[]]> = {
    'a line that is missing': [replace('pool = 5\n', ''), ['+pool = 5']],
    'another address': [replace('http://10.0.0.1:5000', 'http://10.9.9.9:5000'), ['-auth_url = http://10.9.9.9:5000', '+auth_url = http://10.0.0.1:5000']],
    'a value that speaks of a password': [replace('auth_type = password', 'auth_type = v3password'), ['-auth_type = v3password', '+auth_type = password']],
    'a switch that is named after a token': [replace('send_token = true', 'send_token = False'), ['-send_token = False', '+send_token = true']],
    'an option twice': [replace('workers = 2', 'workers = 2\nworkers = 7'), ['-workers = 7']],
    'a line of the plan in another place': [replace('pool = 5', 'pool = 5\n  10.0.0.2'), ['-  10.0.0.2']],
    'an empty password': [replace(`password = ${current}`, 'password ='), ['-password =', '+password = ***']],
    'a section of nobody': [replace('[database]', '[libvirt]\n[database]'), ['-[libvirt]']],
  }
  for (const [title, [present, changes]] of Object.entries(shown)) t.same(changesOf(await diffOf(present)), changes, title)
  t.same(changesOf(await diffOf('export OS_A=1\nexport OS_PASSWORD=x9\n', `export OS_A=2\nexport OS_PASSWORD=${current}\n`)), ['-export OS_A=1', '-export OS_PASSWORD=(not shown)', '+export OS_A=2', '+export OS_PASSWORD=***'])
  t.same(changesOf(await diffOf('a: 1\nb: x9\n', `a: 2\nb: ${current}\n`)), ['-a: 1', '-b: (not shown)', '+a: 2', '+b: ***'])
  t.same(changesOf(await diffOf('workers = 7\r\n', 'workers = 2\n')), ['-workers = 7\r', '+workers = 2'])
})

t.test('a secret that nobody knows is not shown, wherever it is', async (t) => {
  const rows: Record<string, readonly [present: string, changes: readonly string[]]> = {
    'in its option': [replace(`password = ${current}`, `password = ${old}`), ['-password = (not shown)', '+password = ***']],
    'in a URL': [replace(`mysql+pymysql://nova:${current}@10.0.0.1/nova`, `mysql+pymysql://u:${old}@h/db`), ['-connection = (not shown)', '+connection = mysql+pymysql://nova:***@10.0.0.1/nova']],
    'in a URL of a harmless option': [replace('http://10.0.0.1:5000', `http://u:${old}@10.0.0.1:5000`), ['-auth_url = (not shown)', '+auth_url = http://10.0.0.1:5000']],
    'in a comment': [replace('pool = 5', `pool = 5\n# password = ${old}`), ['-# (not shown)']],
    'in an option of nobody': [replace('pool = 5', `pool = 5\nsome_option = ${old}`), ['-some_option = (not shown)']],
    'in a harmless option of another section': [replace('pool = 5', `pool = 5\nworkers = ${old}`), ['-workers = (not shown)']],
    'under a name that holds a secret elsewhere': [replace('debug = false', `debug = false\nconnection = ${old}`), ['-connection = (not shown)']],
    'under a harmless name that holds a secret elsewhere': [replace('target = public', `target = ${old}`), ['-target = (not shown)', '+target = public']],
    'in a value of several lines': [replace('pool = 5', `pool = 5\n  ${old}\n\n\tmore: ${old}`), ['-  (not shown)', '-', '-\t(not shown)']],
    'in the first of several lines': [replace('workers = 2', `workers = ${old}\n# a comment between\n  2`), ['-workers = (not shown)', '-# (not shown)', '-  (not shown)', '+workers = 2']],
    'after a backslash': [replace('pool = 5', `pool = 5\nother = \\\nworkers = ${old}`), ['-other = (not shown)', '-(not shown)']],
    'in armour': [replace('pool = 5', `pool = 5\n-----BEGIN PRIVATE KEY-----\n${old}\nworkers = ${old}\npool=${old}==\n-----END PRIVATE KEY-----`), ['-(not shown)', '-(not shown)', '-(not shown)', '-(not shown)', '-(not shown)']],
    'on a line without a name': [replace('pool = 5', `pool = 5\n${old}\n${old}:x\nuser:${old}`), ['-(not shown)', '-(not shown)', '-(not shown)']],
    'in the place of a name': [replace('pool = 5', `pool = 5\n${old} = x\n${old}=\n${old}==\nworkers ${old} = 2`), ['-(not shown)', '-(not shown)', '-(not shown)', '-(not shown)']],
    'in the place of a section': [replace('[database]', `[${old}]\n[database]`), ['-[(not shown)]']],
    'beside a section': [replace('[database]', `[database] # ${old}`), ['-[(not shown)]', '+[database]']],
    'behind a value': [replace('workers = 2', `workers = 2 # ${old}`), ['-workers = (not shown)', '+workers = 2']],
    'in a structure': [replace('workers = 2', `workers = {"a": "${old}"}`), ['-workers = (not shown)', '+workers = 2']],
    'in an argument': [replace('workers = 2', `workers = program --password ${old}`), ['-workers = (not shown)', '+workers = 2']],
    'in an argument with a sign': [replace('workers = 2', `workers = program --os-token=${old}`), ['-workers = (not shown)', '+workers = 2']],
    'in a header': [replace('workers = 2', `workers = Bearer ${old}`), ['-workers = (not shown)', '+workers = 2']],
    'where a switch should be': [replace('send_token = true', `send_token = ${old}`), ['-send_token = (not shown)', '+send_token = true']],
    'behind a character that is not seen': [replace('workers = 2', `workers = 2\r${old}`), ['-workers = (not shown)', '+workers = 2']],
  }
  for (const [title, [present, changes]] of Object.entries(rows)) {
    const diff = await diffOf(present)
    t.same(changesOf(diff), changes, title)
    t.notMatch(diff, new RegExp(`${old}|${current}`), title)
  }
})

t.test('what the order knows is masked in the wanted content, in every form', async (t) => {
  const key = '-----BEGIN KEY-----\nMIIBVgIBADANBgkq\nAb==\n-----END KEY-----'
  const forms = `a = 1\nb = ${current}\nc = ${Buffer.from(current).toString('hex')}\nd = x,${encodeURIComponent('s/cret&x')}\nkey = |\n${key.replace(/^/gm, '  ')}\n# once ${current}\n`
  const diff = await diffOf('a = 2\n', forms, [current, 's/cret&x', key])
  t.same(changesOf(diff), ['-a = 2', '+a = 1', '+b = ***', '+c = ***', '+d = x,***', '+key = (not shown)', '+  (not shown)', '+  (not shown)', '+  (not shown)', '+  (not shown)', '+# once ***'])
  t.same(changesOf(await diffOf(`a = ${current}\n`, `a = 1\nb = ${current}\n`)), ['-a = (not shown)', '+a = 1', '+b = ***'], 'a known secret under the name of a harmless option')
  const nested = `auth:\n  user: nova\n  password: ${current}\nport: 1\n`
  t.same(changesOf(await diffOf(nested.replace(current, old).replace('port: 1', 'port: 2'), nested)), ['-  (not shown)', '-port: 2', '+  password: ***', '+port: 1'])
})

t.test('a password that is given in the plan is not shown either, nor what stood in the place of one', async (t) => {
  const content = 'workers = 2\nadmin_password = planned\nSECRET_KEY = planned\nurl = http://u:planned@h/\nauth:\n  token: planned\n'
  const diff = await diffOf(content.replace('workers = 2', 'workers = 3').replaceAll('planned', old), content, [])
  t.notMatch(diff, new RegExp(`planned|${old}`))
  t.match(diff, '-workers = 3\n-admin_password = (not shown)\n-SECRET_KEY = (not shown)\n-url = (not shown)\n+workers = 2\n+admin_password = (not shown)\n+SECRET_KEY = (not shown)\n+url = (not shown)\n auth:\n-  (not shown)\n+  (not shown)\n')
  const standIn = `value = ${buildStandIn('app/make@n1', 'value')}\n`
  t.same(changesOf(await diffOf(`value = ${old}\n`, standIn)), ['-value = (not shown)', `+${standIn.trim()}`], 'a check does not know yet what a secret output will be')
})

t.test('there is no diff where lines cannot be told apart', async (t) => {
  const rows: Record<string, readonly [present: string, wanted: string]> = {
    'JSON on one line': [`{"password": "${old}"}`, `{"password": "${current}"}`],
    'JSON': [`{\n"password": "${old}"\n}`, `{\n"password": "${current}",\n"workers": 2\n}`],
    'JSON in the place of a configuration': [`{"password": "${old}"}`, wanted],
    'a list in JSON': [`["${old}"]`, `["${current}"]`],
    'a secret alone': [old, current],
    'a key in base64': [`${old}=`, `${current}=`],
    'a secret outside of a value': [`a = 1\n${old}\n`, `a = 2\n${current}\n`],
    'a quotation that goes on': [`a = 1\nkey = "first\nworkers = ${old}"\n`, `a = 2\nworkers = 1\nkey = "${current}"\n`],
    'a text of Python': [`A = """\nB = ${old}\n"""\n`, `A = 2\nB = "${current}"\n`],
    'quotations that shells and Python see differently': [`A = 'x\\' y'\nB = ${old}\n`, `A = 2\nB = "${current}"\n`],
  }
  for (const [title, [present, content]] of Object.entries(rows)) t.equal(await diffOf(present, content), undefined, title)
  t.type(await diffOf(`A = "x\\"y" # 'z'\n# don't\nB = ${old}\n`, `A = 2\nB = "${current}"\n`), 'string', 'quotations that end are none of these')
})

t.test('files of very long lines and very many take no time', async (t) => {
  for (const unit of [':', '-', ' ', '\\', 'pass', 'key ', '"', 'a=', 'a_', '[', 'a\n', 'a = 1\n', ' a\n', '#\n']) {
    const startedAt = performance.now()
    await diffOf(`workers = 1${unit.repeat(250_000 / unit.length)}\n`, `workers = 2${unit.repeat(250_000 / unit.length)}x\n`)
    t.ok(performance.now() - startedAt < 5000, JSON.stringify(unit))
  }
})

const characters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'
/** Without `=`: what stands before one is a name. */
const punctuated = `${characters}+/-_!$%&.:@`
const makeSecret = (random: Random, from: string): string => `${Array.from({ length: random.integer(10, 44) }, () => random.pick([...from])).join('')}7Q`

const isPartIn = (secret: string, text: string): boolean => Array.from({ length: secret.length - 5 }, (_, index) => secret.slice(index, index + 6)).some((part) => text.includes(part))

/** A line or more with the secret, in a place where nothing says that it may be shown. */
const places: readonly ((secret: string, name: string) => string)[] = [
  (secret, name) => `${name} = ${secret}`,
  (secret, name) => `${name}=${secret}`,
  (secret, name) => `${name}: "${secret}"`,
  (secret, name) => `export ${name}=${secret}`,
  (secret, name) => `# ${name} = ${secret}`,
  (secret, name) => `;${secret} ${name}`,
  (secret, name) => `  ${name} = ${secret}`,
  (secret, name) => `option_0 =\n  ${secret} ${name}`,
  (secret) => `option_0 = scheme://u:${secret}@h/db`,
  (secret) => `option_0 = 1 # ${secret}`,
  (secret) => `option_0 = {"x": "${secret}"}`,
  (secret) => secret,
  (secret) => `[${secret}]`,
  (secret) => `${secret}=`,
  (secret, name) => `-----BEGIN X-----\n${name} = ${secret}\n${secret}\n-----END X-----`,
]

t.test('whatever the files: a secret that is planted on the disk is not in the diff', async (t) => {
  let diffs = 0
  for (let seed = 1; seed <= 1500; seed++) {
    const random = buildRandom(seed, 'private-diff')
    const mine = makeSecret(random, characters)
    const content = Array.from({ length: random.integer(3, 12) }, (_, index) => random.pick([`option_${index} = ${random.integer(1, 3)}`, `option_${index} = ${mine}`, `[section_${random.integer(1, 3)}]`, '# a comment', '', `url_${index} = scheme://u:${mine}@h/${index}`, `list_${index} =\n  one\n  two`]))
    const planted = makeSecret(random, random.pick([characters, punctuated]))
    const lines = content.flatMap((line) => (random.chance(0.1) ? [] : random.chance(0.2) ? [line.replace(/= \d/, '= 9')] : [line]))
    const secretNames = content.flatMap((line) => (line.includes(mine) ? [line.split(' ')[0]!] : []))
    const name = random.pick([...secretNames, 'password', 'anything', 'Strange-Name.1'])
    lines.splice(random.integer(0, lines.length), 0, random.pick(places)(planted, name))
    const diff = await diffOf(lines.join('\n'), `option = 0\n${content.join('\n')}\n`, [mine])
    if (diff !== undefined) diffs++
    if (diff !== undefined && [planted, mine].some((secret) => isPartIn(secret, diff))) t.fail(`seed ${seed}`, { lines, diff })
  }
  t.ok(diffs > 1000, `${diffs} of 1500 had a diff`)
})
