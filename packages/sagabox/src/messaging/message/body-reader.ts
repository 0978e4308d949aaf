import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Check } from 'typebox/value'
import { guidOf } from './id.ts'
import { checker, type Checker, type SchemaProblem } from './validation.ts'

/**
 * Values looked at in one body before what it holds is left as it is: a recursive union can be made
 * to cost any number.
 */
const MOST_VALUES = 100_000

/** What JSON Schema says about a value, as far as it matters here. */
interface Schema {
  $ref?: string
  $defs?: Record<string, Schema>
  format?: string
  properties?: Record<string, Schema>
  required?: readonly string[]
  patternProperties?: Record<string, Schema>
  additionalProperties?: Schema | boolean
  items?: Schema | readonly Schema[]
  prefixItems?: readonly Schema[]
  anyOf?: readonly Schema[]
  oneOf?: readonly Schema[]
  allOf?: readonly Schema[]
}

/** Reads the bodies of one schema. */
export class BodyReader {
  readonly #schema: TSchema
  readonly #compiled: { Check(value: unknown): boolean }
  #checker: Checker | undefined

  constructor(schema: TSchema) {
    this.#schema = schema
    this.#compiled = Compile(schema)
  }

  /** Whether a handler may have the value as it is. */
  accepts(value: unknown): boolean {
    return this.#compiled.Check(value)
  }

  /**
   * Reads what .NET writes in other words: `null` as absent where the schema lets the property be
   * absent and does not allow null, and a Guid in any of .NET's formats as a UUID in lower case.
   * @returns a copy that the schema accepts, or what is wrong
   */
  adapt(value: unknown): { body: unknown } | { problem: SchemaProblem } {
    if (value === null) return { problem: { field: '', expected: REQUIRED } }
    const adapter = new Adapter(this.#schema)
    const body = adapter.read(this.#schema, value, '')
    if (this.accepts(body)) return { body }
    if (adapter.nullAt !== undefined)
      return { problem: { field: adapter.nullAt, expected: REQUIRED } }
    this.#checker ??= checker(this.#schema)
    return { problem: this.#checker(body) ?? { field: '', expected: 'another value' } }
  }
}

const REQUIRED = 'is required, got null'

class Adapter {
  /** The first null where a value is required. */
  nullAt: string | undefined
  readonly #definitions: Record<string, Schema>
  #left = MOST_VALUES

  constructor(root: Schema) {
    this.#definitions = root.$defs ?? {}
  }

  read(schema: Schema, value: unknown, path: string): unknown {
    if (--this.#left < 0) return value
    if (schema.$ref !== undefined)
      return this.read(this.#definitions[schema.$ref.replace('#/$defs/', '')] ?? {}, value, path)
    const alternatives = schema.anyOf ?? schema.oneOf
    if (alternatives) return this.#readOneOf(alternatives, value, path)
    if (schema.allOf) return schema.allOf.reduce((read, part) => this.read(part, read, path), value)
    if (typeof value === 'string')
      return schema.format === 'uuid' ? (guidOf(value) ?? value) : value
    if (Array.isArray(value)) {
      return value.map((item, index) =>
        this.#readPart(itemOf(schema, index), item, `${path}[${index}]`)
      )
    }
    return isObject(value) ? this.#readObject(schema, value, path) : value
  }

  #readObject(
    schema: Schema,
    value: Record<string, unknown>,
    path: string
  ): Record<string, unknown> {
    const read: [string, unknown][] = []
    for (const [name, part] of Object.entries(value)) {
      const declared = propertyOf(schema, name)
      const isAbsent =
        part === null &&
        declared &&
        !schema.required?.includes(name) &&
        !this.#accepts(declared, null)
      if (!isAbsent) read.push([name, this.#readPart(declared, part, `${path}.${name}`)])
    }
    return Object.fromEntries(read)
  }

  #readPart(schema: Schema | undefined, part: unknown, path: string): unknown {
    if (!schema) return part
    if (part !== null) return this.read(schema, part, path)
    if (!this.#accepts(schema, null)) this.nullAt ??= path
    return null
  }

  /** By the first alternative that takes what was read by it. */
  #readOneOf(alternatives: readonly Schema[], value: unknown, path: string): unknown {
    const nullBefore = this.nullAt
    for (const alternative of alternatives) {
      const read = this.read(alternative, value, path)
      if (this.#accepts(alternative, read)) return read
      this.nullAt = nullBefore
    }
    return value
  }

  #accepts(schema: Schema, value: unknown): boolean {
    return Check(this.#definitions as Record<string, TSchema>, schema as TSchema, value)
  }
}

function propertyOf(
  { properties, patternProperties = {}, additionalProperties }: Schema,
  name: string
): Schema | undefined {
  if (properties && Object.hasOwn(properties, name)) return properties[name]
  for (const [pattern, schema] of Object.entries(patternProperties))
    if (new RegExp(pattern).test(name)) return schema
  return typeof additionalProperties === 'object' ? additionalProperties : undefined
}

function itemOf({ items, prefixItems }: Schema, index: number): Schema | undefined {
  const list = prefixItems ?? (Array.isArray(items) ? (items as readonly Schema[]) : undefined)
  return list?.[index] ?? (Array.isArray(items) ? undefined : (items as Schema | undefined))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
