import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { Check } from 'typebox/value'
import { DECIMAL_FORMAT, decimalOf, NO_DECIMAL } from './decimal.ts'
import { exactIntegers, INEXACT, isInexact } from './exact-integers.ts'
import { guidOf } from './id.ts'
import { numberNamed } from './net-enum.ts'
import { explain, valueAt, type SchemaProblem } from './validation.ts'

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
  enum?: readonly unknown[]
  properties?: Record<string, Schema>
  required?: readonly string[]
  patternProperties?: Record<string, Schema>
  additionalProperties?: Schema | boolean
  items?: Schema | readonly Schema[]
  maxItems?: number
  prefixItems?: readonly Schema[]
  anyOf?: readonly Schema[]
  oneOf?: readonly Schema[]
  allOf?: readonly Schema[]
}

/** Reads the bodies of one schema. */
export class BodyReader {
  readonly #schema: TSchema
  readonly #compiled: Validator
  readonly #nullable = new Map<Schema, boolean>()

  constructor(schema: TSchema) {
    this.#schema = exactIntegers(schema)
    this.#compiled = Compile(this.#schema)
  }

  /** Whether a handler may have the value as it is. */
  accepts(value: unknown): boolean {
    return this.#compiled.Check(value)
  }

  /** What is wrong with a value that is not accepted. */
  problem(value: unknown): SchemaProblem {
    const problem = explain(this.#compiled, this.#schema, value)[0]!
    return isInexact(valueAt(value, problem.field)) ? { ...problem, expected: INEXACT } : problem
  }

  /**
   * Reads what .NET writes in other words: `null` as absent where the schema lets the property be
   * absent and does not allow null, a Guid in any of .NET's formats as a UUID in lower case, a
   * number as a decimal, the name of an enum as its number, a time without a zone as UTC. A field
   * that is not there by its name is the first whose name differs in case alone.
   * @param value is left as it is; parts of it that need no other words are shared with the answer
   * @returns what the schema accepts, or what is wrong
   */
  adapt(value: unknown): { body: unknown } | { problem: SchemaProblem } {
    if (value === null) return { problem: { field: '', expected: REQUIRED } }
    const adapter = new Adapter(this.#schema, this.#nullable)
    const body = adapter.read(this.#schema, value)
    if (this.accepts(body)) return { body }
    if (adapter.problem) return { problem: adapter.problem }
    return { problem: this.problem(body) }
  }
}

const REQUIRED = 'is required, got null'

/**
 * Copies an object or a list only where something in it changes, and looks at no field that the
 * schema says nothing about: those may be any number.
 */
class Adapter {
  /** The first null where a value is required, or what else the schema would say in its own words. */
  problem: SchemaProblem | undefined
  readonly #definitions: Record<string, Schema>
  readonly #nullable: Map<Schema, boolean>
  /** Where the value is that is being read. */
  readonly #path: (string | number)[] = []
  #left = MOST_VALUES

  /** @param nullable what is known of schemas that allow null; more is added */
  constructor(root: Schema, nullable: Map<Schema, boolean>) {
    this.#definitions = root.$defs ?? {}
    this.#nullable = nullable
  }

  read(schema: Schema, value: unknown): unknown {
    if (--this.#left < 0) return value
    if (schema.$ref !== undefined)
      return this.read(this.#definitions[schema.$ref.replace('#/$defs/', '')] ?? {}, value)
    const alternatives = schema.anyOf ?? schema.oneOf
    if (alternatives) return this.#readOneOf(alternatives, value)
    if (schema.allOf) return schema.allOf.reduce((read, part) => this.read(part, read), value)
    if (typeof value === 'string') return readText(schema, value)
    if (typeof value === 'number') return this.#readNumber(schema, value)
    if (Array.isArray(value)) return this.#readList(schema, value)
    return isObject(value) ? this.#readObject(schema, value) : value
  }

  #readNumber({ format }: Schema, value: number): unknown {
    if (format !== DECIMAL_FORMAT) return value
    const text = decimalOf(value)
    if (text === undefined) this.#say(`${NO_DECIMAL}: ${value} may have been rounded`)
    return text ?? value
  }

  #readList(schema: Schema, value: readonly unknown[]): readonly unknown[] {
    // It will be refused, whatever is in it.
    if (schema.maxItems !== undefined && value.length > schema.maxItems) return value
    let read: unknown[] | undefined
    for (const [index, item] of value.entries()) {
      const part = this.#readPart(itemOf(schema, index), item, index)
      if (part !== item) (read ??= [...value])[index] = part
    }
    return read ?? value
  }

  #readObject(schema: Schema, value: Record<string, unknown>): Record<string, unknown> {
    const named = inTheirCase(schema.properties, value)
    let read: Record<string, unknown> | undefined = named === value ? undefined : named
    for (const name of namesToRead(schema, named)) {
      const declared = propertyOf(schema, name)
      if (!declared) continue
      const part = named[name]
      if (part === null && !schema.required?.includes(name) && !this.#takesNull(declared)) {
        read ??= { ...named }
        delete read[name]
        continue
      }
      const readPart = this.#readPart(declared, part, name)
      // Also for `__proto__`: it is a field of its own by now.
      if (readPart !== part) (read ??= { ...named })[name] = readPart
    }
    return read ?? value
  }

  #readPart(schema: Schema | undefined, part: unknown, at: string | number): unknown {
    if (!schema) return part
    this.#path.push(at)
    let read = part
    if (part !== null) read = this.read(schema, part)
    else if (!this.#takesNull(schema)) this.#say(REQUIRED)
    this.#path.pop()
    return read
  }

  /** By the first alternative that takes what was read by it. */
  #readOneOf(alternatives: readonly Schema[], value: unknown): unknown {
    const before = this.problem
    for (const alternative of alternatives) {
      const read = this.read(alternative, value)
      if (this.#accepts(alternative, read)) return read
      this.problem = before
    }
    return value
  }

  #takesNull(schema: Schema): boolean {
    let takes = this.#nullable.get(schema)
    if (takes === undefined) this.#nullable.set(schema, (takes = this.#accepts(schema, null)))
    return takes
  }

  #accepts(schema: Schema, value: unknown): boolean {
    return Check(this.#definitions as Record<string, TSchema>, schema as TSchema, value)
  }

  #say(expected: string): void {
    const field = this.#path.map((at) => (typeof at === 'number' ? `[${at}]` : `.${at}`)).join('')
    this.problem ??= { field, expected }
  }
}

/** What .NET writes for a DateTime that knows of no zone. */
const NO_ZONE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$/

function readText(schema: Schema, text: string): unknown {
  if (schema.format === 'uuid') return guidOf(text) ?? text
  if (schema.format === 'date-time') return NO_ZONE.test(text) ? `${text}Z` : text
  return schema.enum ? (numberNamed(schema, text) ?? text) : text
}

/**
 * The value with the fields that a schema names by those names. One that is not there so is taken
 * from the first whose name differs in case alone.
 * @returns the value itself, when nothing changes
 */
function inTheirCase(
  properties: Record<string, Schema> = {},
  value: Record<string, unknown>
): Record<string, unknown> {
  const absent = Object.keys(properties).filter((name) => !Object.hasOwn(value, name))
  if (absent.length === 0) return value
  const others = new Map<string, string>()
  for (const name of Object.keys(value)) {
    const lower = name.toLowerCase()
    if (!Object.hasOwn(properties, name) && !others.has(lower)) others.set(lower, name)
  }
  const given = new Map<string, string>()
  for (const name of absent) {
    const other = others.get(name.toLowerCase())
    if (other !== undefined) given.set(other, name)
  }
  if (given.size === 0) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [given.get(name) ?? name, field])
  )
}

/** Those that the value has and the schema may say something about. */
function namesToRead(
  { properties = {}, patternProperties, additionalProperties }: Schema,
  value: Record<string, unknown>
): string[] {
  return patternProperties || typeof additionalProperties === 'object'
    ? Object.keys(value)
    : Object.keys(properties).filter((name) => Object.hasOwn(value, name))
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
