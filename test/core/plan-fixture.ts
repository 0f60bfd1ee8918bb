import { buildCatalog, nodeId, parseBlueprint, parsePlan, type Blueprint, type Catalog, type NodeRecord, type Plan } from '@lichen/core'

/** A blueprint from YAML; the head (apiVersion, kind, version, summary) is filled in. @throws when it has problems */
export function makeBlueprint(name: string, body: string, templates: Record<string, string> = {}): Blueprint {
  const parsed = parseBlueprint(`apiVersion: lichen.dev/v1\nkind: Blueprint\nname: ${name}\nversion: 1.0.0\nsummary: for tests\n${body}`, templates)
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.value
}

const database = `
parameters:
  type: object
  additionalProperties: false
  properties: {port: {type: integer, minimum: 1, maximum: 65535, default: 3306}, tag: {type: string, default: none}}
rules:
  - {expression: params.port != 13, message: 13 brings bad luck, path: port}
provides:
  sql:
    interface: sql
    inputs: {type: object, additionalProperties: false, required: [database], properties: {database: {type: string, pattern: '^[a-z]+$'}}}
    secrets: {password: {length: 20}}
    outputs:
      host: {type: string, value: node.address}
      port: {type: integer, value: params.port}
      password: {type: string, value: relation.secrets.password}
    action: grant
    removeAction: revoke
actions:
  packages: {needs: [], commands: [{name: install, package: {names: [db]}}]}
  configure: {commands: [{name: 'write {{ params.tag }}', file: {path: /etc/db, template: db.conf.liquid}}]}
  grant: {on: relation, after: [configure], commands: [{name: 'make {{ relation.inputs.database }}', run: {argv: [mk, '{{ relation.inputs.database }}'], creates: /db}}]}
  check: {commands: [{name: answers, probe: {tcp: {host: '{{ node.address }}', port: '{{ params.port }}'}}}]}
  revoke: {phase: remove, on: relation, after: [], commands: [{name: drop, run: {argv: [rm], creates: /gone}}]}
  remove: {after: [revoke], commands: [{name: remove, package: {names: [db], state: absent}}]}
`
const app = `
parameters: {type: object, additionalProperties: false, required: [database], properties: {database: {type: string}, fail: {type: boolean, default: false}}}
secrets: {key: {}}
requires:
  store: {interface: sql, with: {database: '{{ params.database }}'}}
  cache: {interface: cache, optional: true}
actions:
  packages: {needs: [], commands: [{name: install, package: {names: [app]}}]}
  configure:
    commands:
      - {name: write, file: {path: /etc/app, content: 'db={{ uses.store.host }}:{{ uses.store.port }} {{ uses.store.password }} {{ secrets.key }}', secret: true}}
      - {name: never, when: params.fail, note: {text: '{{ params.missing }}'}}
      - {name: 'each {{ item }}', forEach: 'nodes.map(n, n.id)', note: {text: '{{ index }} {{ item }}'}}
  remove: {commands: [{name: remove, package: {names: [app], state: absent}}]}
`

/** Two blueprints bound by an interface: `db` provides sql, `app` requires it. */
export const makeCatalog = (more: readonly Blueprint[] = []): Catalog => buildCatalog([makeBlueprint('db', database, { 'db.conf.liquid': 'port={{ params.port }}\n' }), makeBlueprint('app', app), ...more])

/** A ready node. */
export const makeNode = (id: string, labels: Record<string, string> = {}, change: Partial<NodeRecord> = {}): NodeRecord => ({
  id: nodeId(id),
  labels,
  facts: { hostname: id, address: `10.0.0.${id.replace(/\D/g, '') || '1'}`, addresses: [], os: { id: 'debian', version: '12', codename: 'bookworm', prettyName: 'Debian' }, kernel: '6.1', architecture: 'x64', cpus: 2, memoryBytes: 1e9, diskFreeBytes: 1e9, bootId: 'b', virtualization: 'none', cgroupVersion: 2, packageManager: 'apt', init: 'systemd' },
  state: 'ready',
  cordoned: false,
  agentVersion: '0.1.0',
  joinedAt: 0,
  lastSeenAt: 0,
  ...change,
})

/** A plan before it is parsed, to be edited in any way, wrong ones too. */
export type PlanDraft = Record<string, any>

/** A plan of app and db; `change` edits it before it is parsed. @throws when it does not parse */
export function makePlan(change: (plan: PlanDraft) => void = () => undefined): Plan {
  const plan = {
    apiVersion: 'lichen.dev/v1',
    kind: 'DeploymentPlan',
    metadata: { name: 'shop' },
    nodes: [{ name: 'data', select: { role: 'data' }, count: 1 }, { name: 'web', select: { role: 'web' } }],
    components: [
      { name: 'front', blueprint: 'app@^1', on: 'web', with: { database: 'shop' }, uses: { store: 'base' } },
      { name: 'base', blueprint: 'db', on: 'data' },
    ],
  }
  change(plan)
  const parsed = parsePlan(plan)
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.value
}

/** One data node and two web nodes. */
export const makeNodes = (): NodeRecord[] => [makeNode('n1', { role: 'data' }), makeNode('n2', { role: 'web' }), makeNode('n3', { role: 'web' })]
