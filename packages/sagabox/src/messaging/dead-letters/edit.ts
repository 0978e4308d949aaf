import { SagaboxError } from '../errors/sagabox-error.ts'
import { idOfKey, keyProblem } from '../message/correlation.ts'
import { newId } from '../message/id.ts'
import { keyOf, type Contract } from '../message/message.ts'
import { typeName } from '../message/type-name.ts'
import { bodyReaderOf } from '../message/validate.ts'
import { changes, type Change } from '../postgres/changes.ts'
import { NotAllowed, type WholeLetter } from './known-letter.ts'

/** A body that a person has mended is not what the contract says, or is about something else. */
export class InvalidEdit extends SagaboxError {
  override readonly name = 'InvalidEdit'
  override readonly code = 'INVALID_EDIT'
  /** `body.total` */
  readonly field: string
  readonly expected: string

  constructor(contract: string, field: string, expected: string) {
    super(`${contract} cannot be sent so: ${field} ${expected}`)
    this.field = field
    this.expected = expected
  }
}

/** A letter with another body, ready to be sent. */
export interface Edited {
  /** A new one. */
  messageId: string
  payload: string
  /** Of the body. */
  difference: Change[]
}

/**
 * Puts another body into a letter's envelope, under a new id.
 * @param contracts that the letter's service takes
 * @throws NotAllowed when its type is none of them
 * @throws InvalidEdit naming the field that is wrong
 */
export function edited(
  letter: WholeLetter,
  body: Record<string, unknown>,
  contracts: readonly Contract[]
): Edited {
  const name = letter.message_type === null ? undefined : typeName(letter.message_type)
  const contract = contracts.find((one) => one.name === name)
  if (!contract)
    throw new NotAllowed(
      `Nothing here takes ${name ?? 'a message without a type'}: its body cannot be checked`
    )
  mustFit(contract, body, letter.correlation_id)
  const messageId = newId()
  const envelope = recordIn(letter.payload)
  if (contract.foreign)
    return { messageId, payload: JSON.stringify(body), difference: changes(envelope ?? {}, body) }
  const before = recordOf(envelope?.message)
  const sent = {
    ...(envelope ?? { messageType: [contract.urn], sentTime: new Date().toISOString() }),
    messageId,
    message: body
  }
  return { messageId, payload: JSON.stringify(sent), difference: changes(before ?? {}, body) }
}

/** @throws InvalidEdit */
function mustFit(
  contract: Contract,
  body: Record<string, unknown>,
  correlationId: string | null
): void {
  const bodies = bodyReaderOf(contract.schema)
  if (!bodies.accepts(body)) {
    const { field, expected } = bodies.problem(body)
    throw new InvalidEdit(contract.name, `body${field}`, expected)
  }
  const key = keyOf(contract, body)
  if (key === undefined) return
  const problem = keyProblem(key)
  const field = `body.${contract.correlateBy}`
  if (problem !== undefined) throw new InvalidEdit(contract.name, field, problem)
  if (correlationId !== null && idOfKey(key) !== correlationId.toLowerCase())
    throw new InvalidEdit(
      contract.name,
      field,
      `must stay what the letter is about, of which the id is ${correlationId}`
    )
}

function recordIn(payload: Buffer): Record<string, unknown> | undefined {
  try {
    return recordOf(JSON.parse(payload.toString()))
  } catch {
    return undefined // That may be what it is a dead letter for.
  }
}

function recordOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined
}
