import { backoff, pause } from '../async/batcher.ts'
import { UnknownMessageType } from '../message/envelope.ts'
import { deadLetterHeaders, type FailedAttempt } from './headers.ts'
import { newId } from '../message/id.ts'
import type { Log } from '../async/log.ts'
import type { Message } from '../message/message.ts'
import { errorQueue, skippedQueue } from '../transport/topology.ts'
import {
  PublishRefused,
  type Delivery,
  type Headers,
  type Transport
} from '../transport/transport.ts'
import { atMost } from '../async/timeout.ts'

/**
 * How long stop() waits for letters under way, ms. What has not arrived by then stays in the
 * endpoint's queue.
 */
const STOP_GRACE_MS = 3000

export interface Failure {
  delivery: Delivery
  /** Absent when it could not be read. */
  message?: Message
  error: unknown
  attempts: readonly FailedAttempt[]
}

/**
 * Moves what an endpoint could not handle to `<endpoint>_error`, and what it has no handler for to
 * `<endpoint>_skipped`: the payload byte for byte, the cause in headers. The message leaves the
 * endpoint's queue when it has arrived there.
 */
export class DeadLetterSender {
  readonly #endpoint: string
  readonly #transport: Transport
  readonly #log: Log
  readonly #stopping = new AbortController()
  readonly #underWay = new Set<Promise<void>>()

  constructor(endpoint: string, transport: Transport, log: Log) {
    this.#endpoint = endpoint
    this.#transport = transport
    this.#log = log
  }

  send(failure: Failure): void {
    const sending: Promise<void> = this.#send(failure).then(
      () => void this.#underWay.delete(sending)
    )
    this.#underWay.add(sending)
  }

  async stop(): Promise<void> {
    await atMost(STOP_GRACE_MS, Promise.all(this.#underWay))
    this.#stopping.abort()
  }

  async #send({ delivery, message, error, attempts }: Failure): Promise<void> {
    const skipped = error instanceof UnknownMessageType
    const queue = skipped ? skippedQueue(this.#endpoint) : errorQueue(this.#endpoint)
    let headers: Headers = deadLetterHeaders(
      delivery.headers,
      skipped ? 'dead-letter' : 'fault',
      `${this.#transport.address}${this.#endpoint}`,
      message?.contract.urn,
      error,
      attempts,
      message?.headers
    )
    for (let tries = 1; !this.#stopping.signal.aborted; tries++) {
      try {
        if (!this.#transport.canPublish)
          throw new Error(this.#transport.problem() ?? 'the transport takes no messages')
        const { payload, contentType, messageId } = delivery
        const outcome = await this.#transport.publish({
          messageId: message?.messageId ?? (messageId || newId()),
          destination: queue,
          required: true,
          payload,
          contentType,
          headers
        })
        if (outcome === 'accepted') return delivery.ack()
        throw new PublishRefused(
          'destination',
          outcome === 'refused'
            ? `${queue} takes nothing now: is it full?`
            : `no queue is bound to ${queue}`
        )
      } catch (reason) {
        const isQueues = reason instanceof PublishRefused && reason.concerns === 'destination'
        // Neither the broker's fault nor the queue's, so a header's: without the sender's headers
        // the letter is better than none.
        if (tries > 1 && !isQueues && this.#transport.canPublish)
          headers = deadLetterHeaders(
            {},
            skipped ? 'dead-letter' : 'fault',
            '',
            undefined,
            error,
            attempts
          )
        if (tries === 1)
          this.#log.warn(
            { err: reason, queue, messageId: delivery.messageId },
            'Dead letter not sent yet; trying again'
          )
        await pause(backoff(tries, 100, 5000), this.#stopping.signal)
      }
    }
    delivery.requeue()
  }
}
