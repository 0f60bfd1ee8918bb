/** Texts tried for a string that must match a pattern, most telling first. */
const candidates = ['sample', 'Sample', 'sample.example.org', '10.0.0.1', '/srv/sample', 'http://sample.example.org/', '10', '1.0.0', 'a', 'A', '1', '10.0.0.0/24', 'aa:bb:cc:dd:ee:ff']

/**
 * A value that a JSON Schema probably accepts: its `default`, `const`, first of `enum` or `examples`, or one made from its type; undefined when none comes to mind.
 * With `isContrary`, booleans are the opposite of their default.
 */
export function sampleValue(schema: unknown, isContrary: boolean): unknown {
  if (typeof schema !== 'object' || schema === null) return 'sample'
  const { type, default: standard, const: only, enum: choices, examples } = schema as { type?: unknown; default?: unknown; const?: unknown; enum?: unknown[]; examples?: unknown[] }
  if (typeof standard === 'boolean' || (type === 'boolean' && standard === undefined)) return isContrary ? standard !== true : (standard ?? false)
  if (standard !== undefined) return standard
  if (only !== undefined) return only
  if (choices !== undefined) return choices[0]
  if (examples !== undefined) return examples[0]
  return sampleOfType(schema as Record<string, unknown>, Array.isArray(type) ? type[0] : type, isContrary)
}

/** Values for the required properties of an object's schema, and with `isContrary` for its booleans too; undefined when one of them has none. */
export function sampleProperties(schema: Readonly<Record<string, unknown>> | undefined, isContrary: boolean): Record<string, unknown> | undefined {
  const { properties = {}, required = [] } = (schema ?? {}) as { properties?: Record<string, { type?: unknown } | boolean>; required?: string[] }
  const wanted = Object.keys(properties).filter((name) => required.includes(name) || (isContrary && (properties[name] as { type?: unknown }).type === 'boolean'))
  const entries = wanted.map((name) => [name, sampleValue(properties[name], isContrary)] as const)
  return entries.every(([, value]) => value !== undefined) && required.every((name) => wanted.includes(name)) ? Object.fromEntries(entries) : undefined
}

function sampleOfType(schema: Record<string, unknown>, type: unknown, isContrary: boolean): unknown {
  switch (type) {
    case 'integer':
    case 'number':
      return (schema['minimum'] as number | undefined) ?? Math.min(1, (schema['maximum'] as number | undefined) ?? 1)
    case 'array': {
      const entry = sampleValue(schema['items'], isContrary)
      return entry === undefined ? undefined : Array.from({ length: (schema['minItems'] as number | undefined) ?? 1 }, () => entry)
    }
    case 'object':
      return sampleProperties(schema, isContrary)
    case 'null':
      return null
    default: {
      const pattern = schema['pattern'] === undefined ? undefined : new RegExp(String(schema['pattern']), 'u')
      const shortest = (schema['minLength'] as number | undefined) ?? 0
      return candidates.map((text) => text.padEnd(shortest, 'a')).find((text) => pattern === undefined || pattern.test(text))
    }
  }
}
