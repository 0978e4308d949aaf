import Type from 'typebox'
import { keyProblem, MAX_KEY_BYTES, namesUuids } from '../messaging/message/correlation.ts'
import type { SagaDefinition } from '../saga/define.ts'
import { HttpProblem } from './problem.ts'

const KEY = Type.String({
  minLength: 1,
  maxLength: MAX_KEY_BYTES,
  description: 'What its messages call it, percent-encoded, or its sagaId'
})

/** The parameter of a route that names an instance. */
export function instanceParams({ startedBy }: SagaDefinition) {
  const Id = namesUuids(startedBy) ? Type.String({ format: 'uuid' }) : KEY
  return { params: Type.Object({ sagaId: Id }) }
}

/** @throws HttpProblem 400 for what no message can call an instance */
export function mustBeKey(field: 'sagaId' | 'key', key: string): void {
  const problem = keyProblem(key)
  if (problem === undefined) return
  const where = field === 'key' ? 'query' : 'path'
  throw new HttpProblem(400, `The request's ${where} is not valid`, [{ field, expected: problem }])
}
