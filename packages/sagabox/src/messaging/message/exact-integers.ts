// JSON.parse rounds whole numbers that a double cannot keep, and says nothing.
import type { TSchema } from 'typebox'

type Schema = Record<string, unknown>

/** Where a schema holds others: one, a list, or by name. */
const ONE = ['items', 'additionalProperties', 'not']
const SOME = ['anyOf', 'oneOf', 'allOf', 'items', 'prefixItems']
const NAMED = ['properties', 'patternProperties', '$defs']

/**
 * A schema that takes the same, without whole numbers that may have been rounded: those beyond
 * 2^53 - 1. The very schema, when it takes none.
 */
export function exactIntegers<S extends TSchema>(schema: S): S {
  return exact(schema as unknown as Schema) as unknown as S
}

function exact(schema: Schema): Schema {
  const changed: Schema = {}
  const put = (name: string, part: unknown) => {
    if (part !== schema[name]) changed[name] = part
  }
  for (const name of ONE) if (isSchema(schema[name])) put(name, exact(schema[name]))
  for (const name of SOME) if (Array.isArray(schema[name])) put(name, exactList(schema[name]))
  for (const name of NAMED) if (isSchema(schema[name])) put(name, exactNamed(schema[name]))
  if (schema['type'] === 'integer') {
    const { minimum = -Infinity, maximum = Infinity } = schema as Record<string, number>
    if (minimum < Number.MIN_SAFE_INTEGER) changed['minimum'] = Number.MIN_SAFE_INTEGER
    if (maximum > Number.MAX_SAFE_INTEGER) changed['maximum'] = Number.MAX_SAFE_INTEGER
  }
  if (Object.keys(changed).length === 0) return schema
  // What TypeBox keeps of a schema is not enumerable.
  const copy = Object.defineProperties({}, Object.getOwnPropertyDescriptors(schema)) as Schema
  for (const [name, value] of Object.entries(changed))
    Object.defineProperty(copy, name, {
      value,
      enumerable: true,
      writable: true,
      configurable: true
    })
  return copy
}

function exactList(schemas: readonly unknown[]): readonly unknown[] {
  const read = schemas.map((one) => (isSchema(one) ? exact(one) : one))
  return read.every((one, index) => one === schemas[index]) ? schemas : read
}

function exactNamed(schemas: Schema): Schema {
  const read = Object.fromEntries(
    Object.entries(schemas).map(([name, one]) => [name, isSchema(one) ? exact(one) : one])
  )
  return Object.keys(read).every((name) => read[name] === schemas[name]) ? schemas : read
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What is said of one that may have been rounded. */
export const INEXACT =
  'must be a whole number that JSON keeps, of at most 9007199254740991: larger ones are rounded, send them as text'

/** Whether a value is a whole number that may have been rounded. */
export function isInexact(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)
}
