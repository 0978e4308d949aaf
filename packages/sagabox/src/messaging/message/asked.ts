import { NotRetryable } from '../errors/not-retryable.ts'

/** Where an answer goes. */
export interface AnswerTo {
  /** MassTransit's address, as the sender wrote it. */
  readonly address: string
  /** The queue of this broker that it names. */
  readonly queue: string
}

/** A received message that its sender waits for an answer to, or wants to hear of when it fails. */
export interface Asked {
  /** Absent: it is no request, and nothing answers it. */
  readonly requestId?: string
  /** Absent: nowhere. */
  readonly answerTo?: AnswerTo
  /** Where it is told of a failure. */
  readonly faultTo?: AnswerTo
  /** Addresses that name no queue of this broker. */
  readonly refused: readonly string[]
  /** How long the sender waits, ms, from when it was sent. */
  readonly waitsMs?: number
}

/** What makes a message an answer. */
export interface Answers {
  /** Absent: a fault of what was no request. */
  readonly requestId?: string | undefined
  readonly to: AnswerTo
}

/** What makes a message a request. */
export interface Asks {
  readonly requestId: string
  /** MassTransit's, of the queue that takes the answer. */
  readonly responseAddress: string
  /** How long somebody waits for it, ms. */
  readonly waitsMs: number
}

/** A request was given to a transaction: it is asked at once, and its answer heard outside. */
export class AskedInTransaction extends NotRetryable {
  override readonly name = 'AskedInTransaction'
  override readonly code = 'ASKED_IN_TRANSACTION'

  constructor(contract: string) {
    super(
      `${contract} is a request, which is sent at once and not with a transaction: ask it by request(), before or after; or declare a command`
    )
  }
}
