import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'

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
  return (value) => (compiled.Check(value) ? undefined : problemsOf(compiled.Errors(value))[0])
}

interface SchemaError {
  keyword: string
  instancePath: string
  params: object
  message: string
}

/** Names each wrong field once, deepest cause first. */
export function problemsOf(errors: readonly SchemaError[]): SchemaProblem[] {
  const byField = new Map<string, string[]>()
  for (const { keyword, instancePath, params, message } of errors) {
    const detail = params as Record<string, unknown>
    const names = (detail.requiredProperties ?? detail.additionalProperties ?? detail.unevaluatedProperties) as string[] | undefined
    if (keyword === 'required' && names) for (const name of names) add(`${fieldName(instancePath)}.${name}`, 'is required')
    else if (keyword === 'additionalProperties' && names) for (const name of names) add(`${fieldName(instancePath)}.${name}`, 'is not a known field')
    else if (keyword === 'const') add(fieldName(instancePath), JSON.stringify(detail.allowedValue))
    else if (keyword === 'enum') for (const value of detail.allowedValues as unknown[]) add(fieldName(instancePath), JSON.stringify(value))
    else if (keyword !== 'anyOf' && keyword !== 'boolean') add(fieldName(instancePath), message)
  }
  return [...byField].map(([field, messages]) => ({ field, expected: sentence(messages) }))

  function add(field: string, expected: string) {
    const messages = byField.get(field)
    if (messages) messages.push(expected)
    else byField.set(field, [expected])
  }
}

/** Alternatives of a union of literals arrive as one message each: one sentence names them all. */
function sentence(messages: string[]): string {
  const literals = messages.filter((message) => message.startsWith('"'))
  if (literals.length > 0) return `must be ${literals.length > 1 ? 'one of ' : ''}${literals.join(', ')}`
  return [...new Set(messages)].join(', ')
}

/** JSON pointer -> the path a JavaScript user would write. */
function fieldName(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part.replaceAll('~1', '/').replaceAll('~0', '~')}`))
    .join('')
}
