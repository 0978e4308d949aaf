import type { FastifyInstance } from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Convert } from 'typebox/value'
import { problemsOf } from '../messaging/schema.ts'
import { InvalidRequest } from './problem.ts'

const PARTS: Record<string, string> = { body: 'body', querystring: 'query', params: 'path', headers: 'headers' }

/**
 * Validates requests against their TypeBox schemas, strictly: a body is taken as it is (no "5" for 5, no unknown field
 * dropped in silence); only query and path, which can hold nothing but text, are converted.
 */
export function useTypeBox(app: FastifyInstance): void {
  app.setValidatorCompiler<TSchema>(({ schema, httpPart = 'body' }) => {
    const compiled = Compile(schema)
    return (given: unknown) => {
      const value = httpPart === 'querystring' || httpPart === 'params' ? Convert(schema, structuredClone(given)) : given
      if (compiled.Check(value)) return { value }
      const errors = problemsOf(compiled.Errors(value)).map(({ field, expected }) => ({ field: field.replace(/^\./, '') || httpPart, expected }))
      return { error: new InvalidRequest(PARTS[httpPart] ?? httpPart, errors) }
    }
  })
}
