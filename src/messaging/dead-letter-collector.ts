import { backoff, Batcher, pause } from './batcher.ts'
import { deadLetterOf, storeDeadLetters, type DeadLetter } from './dead-letter.ts'
import type { EnvelopeReader } from './envelope.ts'
import { faultMessage, isFault } from './fault.ts'
import type { Log } from './log.ts'
import type { Message } from './message.ts'
import type { Outbox } from './outbox.ts'
import { waitOrSplit } from './retry.ts'
import { errorQueue, skippedQueue } from './topology.ts'
import type { Delivery, Subscription, Transport } from './transport.ts'

/** Letters in hand, and in one transaction. */
const BATCH = 20
/** A letter of more bytes has a transaction of its own: others may put what they like into an error queue. */
const LARGE = 256 * 1024

interface Collected {
  delivery: Delivery
  letter: DeadLetter
  message: Message | undefined
}

export interface CollectorOptions {
  outbox: Outbox
  transport: Transport
  log: Log
}

/**
 * Brings an endpoint's dead letters from `<endpoint>_error` and `<endpoint>_skipped` into the table `dead_letter`, whoever put them
 * there: the endpoint, the broker, or a service that is not ours. Whatever fails is published as a `Fault<T>` with it.
 */
export class DeadLetterCollector {
  readonly #endpoint: string
  readonly #reader: EnvelopeReader
  readonly #options: CollectorOptions
  readonly #batcher: Batcher<Collected>
  readonly #stopping = new AbortController()
  #subscriptions: Subscription[] = []

  constructor(endpoint: string, reader: EnvelopeReader, options: CollectorOptions) {
    this.#endpoint = endpoint
    this.#reader = reader
    this.#options = options
    this.#batcher = new Batcher({
      limit: BATCH,
      alone: ({ letter }) => letter.payload.length > LARGE,
      work: (batch) => this.#work(batch),
      onError: (error, attempt) => waitOrSplit(error, attempt, options.outbox),
      failed: ({ delivery }, error) => this.#failed(delivery, error)
    })
  }

  start(): void {
    const collect = (queue: string, kind: DeadLetter['kind']) => this.#options.transport.subscribe(queue, (delivery) => this.#receive(delivery, kind), BATCH)
    this.#subscriptions = [collect(errorQueue(this.#endpoint), 'error'), collect(skippedQueue(this.#endpoint), 'skipped')]
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    const cancelled = Promise.all(this.#subscriptions.map((subscription) => subscription.cancel()))
    for (const { delivery } of await this.#batcher.stop()) delivery.requeue()
    await cancelled
  }

  #receive(delivery: Delivery, kind: DeadLetter['kind']): void {
    if (this.#stopping.signal.aborted) return delivery.requeue()
    const message = this.#read(delivery)
    this.#batcher.push({ delivery, message, letter: deadLetterOf(this.#endpoint, kind, delivery, message, (urn) => this.#reader.find(urn)) })
  }

  #read(delivery: Delivery): Message | undefined {
    try {
      return this.#reader.read(delivery.payload, delivery.contentType)
    } catch {
      return undefined // That may be what it is a dead letter for.
    }
  }

  async #work(batch: Collected[]): Promise<void> {
    const { outbox } = this.#options
    await outbox.transaction(async (tx) => {
      const stored = new Set(await storeDeadLetters(tx, batch.map(({ letter }) => letter)))
      outbox.add(tx, batch.flatMap(({ letter, message }) => (message && letter.kind === 'error' && stored.has(letter) && !isFault(message.contract) ? [faultMessage(message, { type: letter.exception, text: letter.reason, stack: letter.stack ?? undefined })] : [])))
    })
    for (const { delivery } of batch) delivery.ack()
  }

  #failed(delivery: Delivery, error: unknown): void {
    if (this.#stopping.signal.aborted) return delivery.requeue()
    this.#options.log.error({ err: error, endpoint: this.#endpoint, messageId: delivery.messageId }, 'Dead letter could not be stored; it stays in its queue and is tried again')
    void pause(backoff(delivery.redeliveries + 1, 500, 60_000), this.#stopping.signal).then(() => delivery.requeue())
  }
}
