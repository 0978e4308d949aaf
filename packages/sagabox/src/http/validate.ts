import type { FastifyInstance } from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { explain, isLarge } from '../messaging/message/validation.ts'
import { withoutNulls } from './nulls.ts'
import { InvalidRequest } from './problem.ts'

const PARTS: Record<string, string> = {
  body: 'body',
  querystring: 'query',
  params: 'path',
  headers: 'headers'
}

/**
 * Validates requests against their TypeBox schemas, strictly: a body is taken as it is (no "5" for
 * 5, no unknown field dropped in silence), but for null in an optional field, which means that it
 * is absent. A query can hold nothing but text: there, and only there, digits are taken for an
 * integer.
 */
export function useTypeBox(app: FastifyInstance): void {
  app.setValidatorCompiler<TSchema>(({ schema, httpPart = 'body' }) => {
    const compiled = Compile(schema)
    return (given: unknown) => {
      const value =
        httpPart === 'querystring' ? withIntegers(schema, given as Record<string, unknown>) : given
      if (compiled.Check(value)) return { value }
      if (httpPart === 'body' && !isLarge(value)) {
        const present = withoutNulls(schema, value)
        if (compiled.Check(present)) return { value: present }
      }
      const errors = explain(compiled, schema, value).map(({ field, expected }) => ({
        field: field.replace(/^\./, '') || httpPart,
        expected
      }))
      return { error: new InvalidRequest(PARTS[httpPart] ?? httpPart, errors) }
    }
  })
}

function withIntegers(schema: TSchema, query: Record<string, unknown>): Record<string, unknown> {
  const { properties = {} } = schema as { properties?: Record<string, { type?: string }> }
  const isInteger = (key: string, value: unknown) =>
    properties[key]?.type === 'integer' && typeof value === 'string' && /^-?\d{1,15}$/.test(value)
  return Object.fromEntries(
    Object.entries(query).map(([key, value]) => [
      key,
      isInteger(key, value) ? Number(value) : value
    ])
  )
}
