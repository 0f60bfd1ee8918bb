/** The blueprints of the simulation: what they install exists only in the ledger of the simulated nodes. */
import { type Action, buildCatalog, type Catalog, parseBlueprint } from '@lichen/core'

const parameters = `
parameters:
  type: object
  additionalProperties: false
  properties:
    version: { type: string, default: '1' }
    behaviour: { type: string, default: '{}' }
`

// Actions of an ordinary service: a look at the node, two commands, one, and a check that is a gate between waves.
const service = `
apiVersion: lichen.dev/v1
kind: Blueprint
name: sim-service
version: 1.0.0
summary: A service of the simulation, every effect of which can be checked.
${parameters}
actions:
  preflight:
    timeoutS: 25
    retry: { attempts: 2, backoffS: 0.5 }
    commands:
      - name: look
        timeoutS: 20
        run: { argv: [sim, do, 'look:{{ deployment.name }}/{{ component.name }}:{{ params.version }}', '{{ params.behaviour }}'], verify: [sim, check, 'look:{{ deployment.name }}/{{ component.name }}:{{ params.version }}'] }
  install:
    timeoutS: 25
    retry: { attempts: 3, backoffS: 1 }
    commands:
      - name: unpack
        timeoutS: 20
        run: { argv: [sim, do, 'unpack:{{ deployment.name }}/{{ component.name }}:{{ params.version }}', '{{ params.behaviour }}'], verify: [sim, check, 'unpack:{{ deployment.name }}/{{ component.name }}:{{ params.version }}'] }
      - name: enable
        timeoutS: 20
        run: { argv: [sim, do, 'enable:{{ deployment.name }}/{{ component.name }}:{{ params.version }}', '{"ms":50,"lines":1,"fails":0,"failsAfter":false}'], unless: [sim, check, 'enable:{{ deployment.name }}/{{ component.name }}:{{ params.version }}'] }
  configure:
    timeoutS: 25
    retry: { attempts: 2, backoffS: 0.5 }
    commands:
      - name: say
        note: { text: 'configuring {{ component.name }}' }
      - name: configure
        timeoutS: 20
        run: { argv: [sim, do, 'configure:{{ deployment.name }}/{{ component.name }}:{{ params.version }}', '{{ params.behaviour }}'], verify: [sim, check, 'configure:{{ deployment.name }}/{{ component.name }}:{{ params.version }}'] }
  check:
    gate: true
    retry: { attempts: 2, backoffS: 0.5 }
    commands:
      - name: configured
        probe: { command: [sim, check, 'configure:{{ deployment.name }}/{{ component.name }}:{{ params.version }}'], intervalMs: 500, deadlineMs: 5000 }
  remove:
    commands:
      - name: nothing
        note: { text: removed }
`

// What nobody can look for afterwards: migrations, messages, payments.
const once = `
apiVersion: lichen.dev/v1
kind: Blueprint
name: sim-once
version: 1.0.0
summary: An effect of the simulation that cannot be checked.
${parameters}
actions:
  migrate:
    timeoutS: 25
    retry: { attempts: 1 }
    commands:
      - name: migrate
        timeoutS: 20
        run: { argv: [sim, do, 'migrate:{{ deployment.name }}/{{ component.name }}:{{ params.version }}', '{{ params.behaviour }}'], uncheckable: true }
  remove:
    commands:
      - name: nothing
        note: { text: removed }
`

/** The effects that an action stands for, by the name of the action in its blueprint, without component and version. */
export const effectsOf: Readonly<Record<string, readonly string[]>> = { install: ['unpack', 'enable'], configure: ['configure'], preflight: ['look'], migrate: ['migrate'], check: [] }

/** Key of an effect in the ledger. */
export const effectKey = (effect: string, deployment: string, component: string, version: string): string => `${effect}:${deployment}/${component}:${version}`

/** Keys of the effects that the commands of an action bring about. */
export function effectKeysOf(action: Pick<Action, 'name' | 'commands'>): readonly string[] {
  let keys = known.get(action)
  if (keys === undefined) known.set(action, (keys = findEffectKeys(action)))
  return keys
}

const known = new WeakMap<object, readonly string[]>()

function findEffectKeys(action: Pick<Action, 'name' | 'commands'>): string[] {
  const [, deployment, component, version] = /"do","\w+:([^/"]*)\/([^:"]*):([^"]*)"/.exec(JSON.stringify(action.commands)) ?? []
  return version === undefined ? [] : (effectsOf[action.name] ?? []).map((effect) => effectKey(effect, deployment!, component!, version))
}

/** The catalog of the simulation. */
export function buildSimCatalog(): Catalog {
  return buildCatalog(
    [service, once].map((text) => {
      const parsed = parseBlueprint(text, {})
      if (!parsed.ok) throw new Error(parsed.problems.map((problem) => `${problem.path}: ${problem.message}`).join('; '))
      return parsed.value
    }),
  )
}
