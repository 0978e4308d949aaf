import { SagaboxError } from '../errors/sagabox-error.ts'
import { InvalidDuration, milliseconds } from './duration.ts'

/** Longest time that a message may wait, ms: 100 years. */
const LONGEST_MS = 100 * 365.25 * 24 * 3600 * 1000
/** Of a token, characters. */
const LONGEST_TOKEN = 200

/** When a message is sent, if not at once. */
export interface Later {
  /** From the transaction that stores it, ms, by the database's clock. */
  readonly ms?: number
  /** Or a point in time, ISO 8601. */
  readonly at?: string
  /** Names the message until it is sent: see Outbox.cancel. */
  readonly token?: string
}

/** How a message that waits to be sent is named. */
export interface LaterOptions {
  /**
   * Names the message until it is sent, so that it can be cancelled: any text of at most 200
   * characters. Another message under the same token takes its place.
   */
  readonly token?: string
}

/** A token that cannot name a message. */
export class InvalidToken extends SagaboxError {
  override readonly name = 'InvalidToken'
  override readonly code = 'INVALID_TOKEN'
}

/**
 * Says when a message is to be sent.
 * @param when how long from now, such as `'10s'`, or milliseconds; or a point in time, which may be
 * past
 * @throws InvalidDuration, InvalidToken
 */
export function later(when: string | number | Date, { token }: LaterOptions = {}): Later {
  const named = token === undefined ? {} : { token: tokenOf(token) }
  if (!(when instanceof Date)) return { ms: bounded(milliseconds(when), when), ...named }
  if (Number.isNaN(when.getTime()))
    throw new InvalidDuration('The Date is invalid: expected a point in time')
  bounded(when.getTime() - Date.now(), when.toISOString())
  return { at: when.toISOString(), ...named }
}

/** @throws InvalidToken */
export function tokenOf(token: string): string {
  const found =
    typeof token !== 'string'
      ? `a ${typeof token}`
      : token === '' || token.length > LONGEST_TOKEN
        ? `a text of ${token.length} characters`
        : token.includes('\0') || !token.isWellFormed()
          ? 'a text with a NUL or half a surrogate pair'
          : undefined
  if (found !== undefined)
    throw new InvalidToken(
      `The token is ${found}: expected a text of 1 to ${LONGEST_TOKEN} characters`
    )
  return token
}

function bounded(ms: number, said: string | number): number {
  if (ms > LONGEST_MS)
    throw new InvalidDuration(`${said} is too far away: expected at most 100 years`)
  return ms
}
