import { backoff, Batcher, pause } from '../async/batcher.ts'
import { Consumer } from '../inbox/consumer.ts'
import { deadLetterOf, storeDeadLetters, type DeadLetter } from './letter.ts'
import { causeIn, hasExpired } from './headers.ts'
import type { MessageReader } from '../message/envelope.ts'
import { faultMessage, isFault } from '../message/fault.ts'
import type { Log } from '../async/log.ts'
import type { Message } from '../message/message.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { Reading } from '../transport/reading.ts'
import { errorQueue, skippedQueue } from '../transport/topology.ts'
import type { Delivery, Transport } from '../transport/transport.ts'

/** Letters in hand, and in one transaction. */
const BATCH = 20
/**
 * A letter of more bytes has a transaction of its own: others may put what they like into an error
 * queue.
 */
const LARGE = 256 * 1024

interface Collected {
  delivery: Delivery
  letter: DeadLetter
  message: Message | undefined
  /** How often it could not be stored. */
  failures: number
}

export interface CollectorOptions {
  outbox: Outbox
  transport: Transport
  log: Log
  /** The queues, where the endpoint is somebody else's: who failed has said so there. */
  theirs?: readonly string[]
}

/**
 * Brings an endpoint's dead letters from `<endpoint>_error` and `<endpoint>_skipped` into the table
 * `dead_letter`, whoever put them there: the endpoint, the broker, or a service that is not ours.
 * Whatever fails in an endpoint of ours is published as a `Fault<T>` with it.
 */
export class DeadLetterCollector {
  readonly #endpoint: string
  readonly #reader: MessageReader
  readonly #reading = new Reading()
  readonly #options: CollectorOptions
  readonly #batcher: Batcher<Collected>
  readonly #consumer: Consumer

  constructor(endpoint: string, reader: MessageReader, options: CollectorOptions) {
    this.#endpoint = endpoint
    this.#reader = reader
    this.#options = options
    this.#batcher = new Batcher({
      limit: BATCH,
      alone: ({ letter }) => letter.payload.length > LARGE,
      work: (batch) => this.#work(batch),
      onError: (error, attempt) => this.#consumer.judge(error, attempt),
      failed: (collected, error) => this.#failed(collected, error)
    })
    const { theirs } = options
    const collect = (queue: string, kind: DeadLetter['kind']) =>
      options.transport.subscribe(
        queue,
        (delivery) => this.#receive(delivery, kind),
        BATCH,
        theirs !== undefined
      )
    const isTaken = (queue: string) => theirs?.includes(queue) ?? true
    const [errors, skipped] = [errorQueue(endpoint), skippedQueue(endpoint)]
    this.#consumer = new Consumer({
      endpoint: errors,
      outbox: options.outbox,
      log: options.log,
      subscribe: () => [
        ...(isTaken(errors) ? [collect(errors, 'error')] : []),
        ...(isTaken(skipped) ? [collect(skipped, 'skipped')] : [])
      ],
      giveBack: () => {
        for (const delivery of this.#reading.stop()) delivery.requeue()
        for (const { delivery } of this.#batcher.takeWaiting()) delivery.requeue()
      }
    })
  }

  start(): void {
    this.#consumer.start()
  }

  async stop(): Promise<void> {
    const cancelled = this.#consumer.stop()
    for (const delivery of this.#reading.stop()) delivery.requeue()
    for (const { delivery } of await this.#batcher.stop()) delivery.requeue()
    await cancelled
  }

  #receive(delivery: Delivery, kind: DeadLetter['kind']): void {
    if (this.#consumer.givesBack) return delivery.requeue()
    this.#reading.take(delivery, (one) => this.#read(one, kind))
  }

  #read(delivery: Delivery, kind: DeadLetter['kind']): void {
    // What the endpoint could not read is not looked at again: that is as long as the first time.
    const message =
      causeIn(delivery.headers).exception === 'UnreadableMessage'
        ? undefined
        : this.#reader.glance(delivery.payload, delivery.contentType, delivery)
    if (message?.asked?.requestId !== undefined && hasExpired(delivery.headers)) {
      const about = { endpoint: this.#endpoint, messageId: message.messageId }
      this.#options.log.debug(about, 'A request has expired: it is dropped')
      return delivery.ack()
    }
    this.#batcher.push({
      delivery,
      message,
      failures: 0,
      letter: deadLetterOf(this.#endpoint, kind, delivery, message, this.#reader)
    })
  }

  async #work(batch: Collected[]): Promise<void> {
    const { outbox, theirs } = this.#options
    await outbox.transaction(async (tx) => {
      const stored = new Set(
        await storeDeadLetters(
          tx,
          batch.map(({ letter }) => letter)
        )
      )
      outbox.add(
        tx,
        batch.flatMap(({ letter, message }) =>
          !theirs &&
          message &&
          letter.kind === 'error' &&
          stored.has(letter) &&
          !isFault(message.contract)
            ? [
                faultMessage(message, {
                  type: letter.exception,
                  text: letter.reason,
                  stack: letter.stack ?? undefined
                })
              ]
            : []
        )
      )
    })
    for (const { delivery } of batch) delivery.ack()
  }

  /**
   * Held, not given back: a queue has a limit of deliveries, and behind this one there is nothing.
   */
  #failed(collected: Collected, error: Error): void {
    const { delivery } = collected
    if (this.#consumer.givesBack) return delivery.requeue()
    collected.failures++
    if (collected.failures === 1) {
      const details = { err: error, endpoint: this.#endpoint, messageId: delivery.messageId }
      this.#options.log.error(
        details,
        'Dead letter could not be stored; it stays in its queue and is tried again'
      )
    }
    void pause(backoff(collected.failures, 500, 60_000), this.#consumer.stopping).then(() => {
      if (this.#consumer.givesBack) delivery.requeue()
      else this.#batcher.push(collected)
    })
  }
}
