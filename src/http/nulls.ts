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
  if (Array.isArray(value)) return schema.items ? value.map((item) => stripped(schema.items, item)) : value
  const { properties = {}, required = [] } = schema
  const isAbsent = (name: string, field: unknown) => field === null && Object.hasOwn(properties, name) && !required.includes(name)
  return Object.fromEntries(Object.entries(value).flatMap(([name, field]) => (isAbsent(name, field) ? [] : [[name, stripped(Object.hasOwn(properties, name) ? properties[name] : undefined, field)]])))
}
