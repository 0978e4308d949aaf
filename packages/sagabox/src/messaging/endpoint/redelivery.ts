import { Batcher } from '../async/batcher.ts'
import type { Consumer } from '../inbox/consumer.ts'
import type { Endings } from './endings.ts'
import { redeliveriesIn, redeliveryHeaders, waitingHeaders } from '../dead-letters/headers.ts'
import { REDELIVERIES, withHeader } from '../message/envelope-header.ts'
import type { Outbox, SentBack } from '../outbox/outbox.ts'
import { allAttempts, type Received } from './received.ts'
import { isLockTimeout } from '../postgres/sql.ts'
import { forgetStart } from '../inbox/unfinished.ts'

/** Messages put off in one transaction. */
const BATCH = 100
/** When a message comes again that a lock keeps waiting. */
const LOCKED_SECONDS = 5

interface PutOff {
  received: Received
  seconds: number
  /** It failed by its own fault. */
  counts: boolean
}

export interface RedeliveryOptions {
  endpoint: string
  outbox: Outbox
  consumer: Consumer
  endings: Endings
}

/** Puts messages off: they leave the queue and wait in the outbox until they are due. */
export class Redelivery {
  readonly #options: RedeliveryOptions
  readonly #batcher: Batcher<PutOff>

  constructor(options: RedeliveryOptions) {
    this.#options = options
    this.#batcher = new Batcher({
      limit: BATCH,
      work: (batch) => this.#putOff(batch),
      onError: (error, attempt) => options.consumer.judge(error, attempt),
      failed: ({ received }, error) => this.#failed(received, error)
    })
  }

  /** It has failed, and comes again after so many seconds. */
  afterFailure(received: Received, seconds: number): void {
    this.#batcher.push({ received, seconds, counts: true })
  }

  /** Somebody's lock is in its way: nothing counts against it. */
  afterLock(received: Received): void {
    this.#batcher.push({ received, seconds: LOCKED_SECONDS, counts: false })
  }

  /** Gives back to the queue what has not begun. */
  giveBack(): void {
    for (const { received } of this.#batcher.takeWaiting()) received.delivery.requeue()
  }

  async stop(): Promise<void> {
    for (const { received } of await this.#batcher.stop()) received.delivery.requeue()
  }

  async #putOff(batch: readonly PutOff[]): Promise<void> {
    const { endpoint, outbox, endings } = this.#options
    await outbox.transaction(async (tx) => {
      outbox.sendBack(
        tx,
        batch.map((one) => this.#sentBack(one))
      )
      forgetStart(
        tx,
        endpoint,
        batch.map(({ received }) => received.message.messageId)
      )
    })
    for (const { received } of batch) endings.end(received).ack()
  }

  #sentBack({ received, seconds, counts }: PutOff): SentBack {
    const { delivery, message } = received
    const attempts = allAttempts(received)
    // It was read as JSON, so it is text.
    const payload = delivery.payload.toString()
    const redeliveries = redeliveriesIn(delivery.headers, message.headers) + 1
    return {
      messageId: message.messageId,
      endpoint: this.#options.endpoint,
      payload:
        counts && !message.contract.foreign
          ? withHeader(payload, REDELIVERIES, redeliveries)
          : payload,
      contentType: delivery.contentType,
      headers: counts
        ? redeliveryHeaders(delivery.headers, attempts, redeliveries)
        : waitingHeaders(delivery.headers, attempts),
      seconds
    }
  }

  /** The database works and does not take it. It must not spin between the queue and here. */
  #failed(received: Received, error: Error): void {
    if (this.#options.consumer.givesBack) return received.delivery.requeue()
    if (isLockTimeout(error)) return this.afterLock(received)
    this.#options.endings.bury(received, error)
  }
}
