import type { TSchema } from 'typebox'

interface Described {
  properties?: Record<string, Described>
  required?: string[]
  items?: Described
}

/** A copy of a value without the nulls of optional fields: .NET's clients write every field. */
export function withoutNulls(schema: TSchema, value: unknown): unknown {
  return stripped(schema, value)
}

function stripped(schema: Described | undefined, value: unknown): unknown {
  if (!schema || typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((item) => stripped(schema.items, item))
  const { properties = {}, required = [] } = schema
  const known = (name: string) => (Object.hasOwn(properties, name) ? properties[name] : undefined)
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, field]) => field !== null || !known(name) || required.includes(name))
      .map(([name, field]) => [name, stripped(known(name), field)])
  )
}
