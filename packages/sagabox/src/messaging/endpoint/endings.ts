import type { DeadLetterSender, Failure } from '../dead-letters/sender.ts'
import { UnreadableMessage } from '../message/envelope.ts'
import { attemptOf } from '../dead-letters/headers.ts'
import type { LockWaits } from './lock-waits.ts'
import type { Log } from '../async/log.ts'
import { allAttempts, type Received } from './received.ts'
import type { Suspects } from './suspects.ts'
import type { Delivery } from '../transport/transport.ts'

export interface EndingsOptions {
  endpoint: string
  deadLetters: DeadLetterSender
  suspects: Suspects
  locks: LockWaits
  log: Log
}

/** How messages leave an endpoint. */
export class Endings {
  readonly #options: EndingsOptions

  constructor(options: EndingsOptions) {
    this.#options = options
  }

  /** It leaves this process; the caller settles its delivery. */
  end(received: Received): Delivery {
    received.ended = true
    this.#options.locks.ended(received)
    this.#options.suspects.ended(received)
    return received.delivery
  }

  /** It becomes a dead letter. */
  bury(received: Received, error: unknown): void {
    const { message } = received
    this.#send({ delivery: this.end(received), message, error, attempts: allAttempts(received) })
  }

  buryUnread(delivery: Delivery, error: unknown): void {
    this.#send({ delivery, error, attempts: [attemptOf(error)] })
  }

  #send(failure: Failure): void {
    const { endpoint, deadLetters, log } = this.#options
    const { delivery, message, error } = failure
    const details = {
      err: error,
      endpoint,
      messageId: message?.messageId ?? delivery.messageId,
      correlationId: message?.correlationId,
      type: message?.contract.name,
      field: error instanceof UnreadableMessage ? error.field : undefined
    }
    log.error(details, 'Message cannot be handled; it becomes a dead letter')
    deadLetters.send(failure)
  }
}
