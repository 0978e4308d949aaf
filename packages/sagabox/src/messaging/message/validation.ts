import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { DECIMAL, NO_DECIMAL } from './decimal.ts'

/** Wrong fields that are named. */
const MOST_PROBLEMS = 8
/** Longest name of a field that is shown, characters. */
const LONGEST_NAME = 100
/**
 * Of a value with more parts (fields and items), an excerpt is described: TypeBox's `Errors` walks
 * all of it, 230 ms for 120,000 fields.
 */
const MOST_PARTS = 1000
/** Of a list, and unknown fields of an object, in the excerpt. */
const MOST_SHOWN = 101

export interface SchemaProblem {
  /** Where, as a path: `.items[0].quantity`; empty for the value itself. */
  field: string
  expected: string
}

/** Says what is wrong with a value, or nothing. */
export type Checker = (value: unknown) => SchemaProblem | undefined

/** Compiles a schema once; the checker reports the first problem. */
export function checker(schema: TSchema): Checker {
  const compiled = Compile(schema)
  return (value) => (compiled.Check(value) ? undefined : explain(compiled, schema, value)[0])
}

/**
 * What is wrong with a value that did not pass, in bounded time however large it is. Never empty.
 */
export function explain(compiled: Validator, schema: TSchema, value: unknown): SchemaProblem[] {
  const problems = problemsOf(compiled.Errors(isLarge(value) ? excerpt(schema, value) : value))
  if (problems.length > 0) return problems
  return [
    {
      field: '',
      expected: `is not valid; what is wrong is not among its first ${MOST_SHOWN} parts`
    }
  ]
}

/** More than MOST_PARTS fields and items in all; stops counting there. */
export function isLarge(value: unknown): boolean {
  let parts = 0
  const left: unknown[] = [value]
  while (left.length > 0) {
    const next = left.pop()
    if (typeof next !== 'object' || next === null) continue
    // Of an object with 49,000 fields, its values take three times as long as their names.
    parts += (Array.isArray(next) ? next : Object.keys(next)).length
    if (parts > MOST_PARTS) return true
    left.push(...Object.values(next))
  }
  return false
}

interface Described {
  properties?: Record<string, Described>
  items?: Described
}

/**
 * The fields that the schema knows, and the beginning of everything else: what it knows nothing of
 * may be nested without end.
 */
function excerpt(schema: Described | undefined, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    return schema ? value.slice(0, MOST_SHOWN).map((item) => excerpt(schema.items, item)) : []
  }
  const { properties = {} } = schema ?? {}
  const fields = value as Record<string, unknown>
  const names = Object.keys(fields)
  const known = Object.keys(properties).filter((name) => Object.hasOwn(fields, name))
  const others = names
    // Those that are known may come first.
    .slice(0, MOST_PROBLEMS + known.length)
    .filter((name) => !Object.hasOwn(properties, name))
    .slice(0, MOST_PROBLEMS)
  return Object.fromEntries([
    ...known.map((name) => [name, excerpt(properties[name], fields[name])]),
    ...others.map((name) => [name, excerpt(undefined, fields[name])])
  ])
}

/** What is at a path such as `.items[0].quantity`. */
export function valueAt(value: unknown, path: string): unknown {
  let found = value
  for (const [, name, index] of path.matchAll(/\.([^.[\]]+)|\[(\d+)\]/g))
    found = (found as Record<string, unknown> | null | undefined)?.[name ?? index!]
  return found
}

interface SchemaError {
  keyword: string
  instancePath: string
  params: object
  message: string
}

/** Names each wrong field once, deepest cause first, and not more than a few. */
export function problemsOf(errors: readonly SchemaError[]): SchemaProblem[] {
  const byField = new Map<string, string[]>()
  for (const { keyword, instancePath, params, message } of errors) {
    const detail = params as Record<string, unknown>
    const names = (detail.requiredProperties ??
      detail.additionalProperties ??
      detail.unevaluatedProperties) as string[] | undefined
    if (keyword === 'required' && names)
      for (const name of names) add(`${fieldName(instancePath)}.${name}`, 'is required')
    else if (keyword === 'additionalProperties' && names)
      for (const name of names) add(`${fieldName(instancePath)}.${name}`, 'is not a known field')
    else if (keyword === 'const') add(fieldName(instancePath), JSON.stringify(detail.allowedValue))
    else if (keyword === 'enum')
      for (const value of detail.allowedValues as unknown[])
        add(fieldName(instancePath), JSON.stringify(value))
    else if (keyword === 'pattern' && String(detail.pattern) === DECIMAL)
      add(fieldName(instancePath), NO_DECIMAL)
    else if (keyword !== 'anyOf' && keyword !== 'boolean') add(fieldName(instancePath), message)
  }
  // With many unknown fields TypeBox has no room left to say what the eight errors are about.
  for (const { keyword, instancePath } of byField.size === 0 ? errors : []) {
    if (keyword === 'boolean') add(fieldName(instancePath), 'is not a known field')
  }
  return [...byField].map(([field, messages]) => ({ field, expected: sentence(messages) }))

  function add(name: string, expected: string) {
    const field = name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME)}…` : name
    const messages = byField.get(field)
    if (messages) messages.push(expected)
    else if (byField.size < MOST_PROBLEMS) byField.set(field, [expected])
  }
}

/** Alternatives of a union of literals arrive as one message each: one sentence names them all. */
function sentence(messages: string[]): string {
  const literals = messages.filter((message) => /^("|-?\d)/.test(message))
  if (literals.length > 0)
    return `must be ${literals.length > 1 ? 'one of ' : ''}${literals.join(', ')}`
  return [...new Set(messages)].join(', ')
}

/** JSON pointer -> the path a JavaScript user would write. */
function fieldName(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((part) =>
      /^\d+$/.test(part) ? `[${part}]` : `.${part.replaceAll('~1', '/').replaceAll('~0', '~')}`
    )
    .join('')
}
