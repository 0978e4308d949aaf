import type { TSchema } from 'typebox'
import { NotRetryable } from '../errors/not-retryable.ts'
import { BodyReader } from './body-reader.ts'
import { keyProblem } from './correlation.ts'
import { valueAt } from './validation.ts'

/** A message whose body is not what its contract says: no retry will change that. */
export class InvalidMessage extends NotRetryable {
  override readonly name = 'InvalidMessage'
  override readonly code = 'INVALID_MESSAGE'
}

const readers = new WeakMap<TSchema, BodyReader>()

/** The reader of a schema's bodies, compiled when it is first needed: a millisecond or so. */
export function bodyReaderOf(schema: TSchema): BodyReader {
  let reader = readers.get(schema)
  if (!reader) readers.set(schema, (reader = new BodyReader(schema)))
  return reader
}

/** What a contract says of its bodies. */
interface Declared {
  readonly name: string
  readonly schema: TSchema
  readonly correlateBy?: string
}

/**
 * Holds a body to its contract, where it is made: 1.8 µs of CPU for the four messages of an order, measured.
 * @throws InvalidMessage naming the contract, the field, what was expected and what was found
 */
export function mustBeValid(contract: Declared, body: unknown, key: string | undefined): void {
  const bodies = bodyReaderOf(contract.schema)
  if (!bodies.accepts(body)) {
    const { field, expected } = bodies.problem(body)
    throw new InvalidMessage(
      `${contract.name} cannot be sent: ${field.replace(/^\./, '') || 'its body'} ${expected}, got ${found(body, field)}`
    )
  }
  const problem = key === undefined ? undefined : keyProblem(key)
  if (problem !== undefined)
    throw new InvalidMessage(
      `${contract.name} cannot be sent: ${contract.correlateBy} names what it is about: ${problem}`
    )
}

/** What is at a path such as `.items[0].quantity`, cut short. */
function found(body: unknown, path: string): string {
  const value = valueAt(body, path)
  if (value === undefined) return 'nothing'
  if (typeof value === 'object' && value !== null)
    return Array.isArray(value) ? `a list of ${value.length}` : 'an object'
  // NaN and its like are null in JSON.
  const text = typeof value === 'number' ? `${value}` : (JSON.stringify(value) ?? typeof value)
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}
