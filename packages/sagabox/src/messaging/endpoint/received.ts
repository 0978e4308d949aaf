import { attemptsIn, replayedIn, type FailedAttempt } from '../dead-letters/headers.ts'
import type { Message } from '../message/message.ts'
import type { Delivery } from '../transport/transport.ts'

/** A message between its delivery and its end. */
export interface Received {
  delivery: Delivery
  message: Message
  /** How it failed in this process. */
  attempts: FailedAttempt[]
  /** It has failed, or a process may have died of it: it gets transactions of its own. */
  alone: boolean
  /** It was handled, put off or buried. */
  ended: boolean
  /** How often somebody's lock was in its way while it was tried alone. */
  blocked: number
  /** By performance.now(); then nobody waits for its answer any more. */
  expiresAt: number
}

/** All tries, those before this delivery included. */
export function allAttempts({ delivery, attempts }: Received): FailedAttempt[] {
  return [...attemptsIn(delivery.headers), ...attempts]
}

/**
 * Nothing says of any of them that it may have been handled before: no second copy, not delivered
 * again, no letter that an operator sent back.
 */
export function looksNew(batch: readonly Received[]): boolean {
  const ids = new Set(batch.map(({ message }) => message.messageId))
  return (
    ids.size === batch.length &&
    batch.every(
      ({ delivery }) => delivery.redeliveries === 0 && replayedIn(delivery.headers) === undefined
    )
  )
}
