import type { NodeRecord } from '@lichen/core'
import { makeNode } from '../core/plan-fixture.js'

interface Group {
  readonly name: string
  readonly select?: Readonly<Record<string, string>> | undefined
  readonly count?: number | undefined
}

/** As many ready nodes as each group of a plan asks for, or one; each with an address of its own. */
export const makeNodesOf = (groups: readonly Group[]): NodeRecord[] =>
  groups.flatMap(({ name, select, count }, index) =>
    Array.from({ length: count ?? 1 }, (_, each) => {
      const node = makeNode(`${name}-${each + 1}`, { ...select })
      return { ...node, facts: { ...node.facts, address: `10.0.${index}.${each + 1}` } }
    }),
  )
