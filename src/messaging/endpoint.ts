import { backoff, Batcher, pause } from './batcher.ts'
import { deadLetterOf, storeDeadLetters, type DeadLetter } from './dead-letter.ts'
import { EnvelopeReader, UnreadableMessage } from './envelope.ts'
import { claim } from './inbox.ts'
import type { Log } from './log.ts'
import type { BodyOf, Contract, Message } from './message.ts'
import type { Outbox } from './outbox.ts'
import { isBadData, isConflict, isUnavailable, type Tx } from './sql.ts'
import type { EndpointTopology } from './topology.ts'
import type { Delivery, Subscription, Transport } from './transport.ts'

/**
 * Most messages in one transaction. Database time an order, measured: 2.8 ms alone, 0.42 in tens, 0.16 at a hundred,
 * 0.21 at four hundred.
 */
const BATCH = 100

/**
 * Handles messages of some contracts. `handle` gets only messages this endpoint has not handled before, in order of
 * arrival and several for one business transaction possible; it does its work in `tx` and returns the messages to send.
 */
export interface Handler {
  readonly contracts: readonly Contract[]
  handle(messages: Message[], tx: Tx): Promise<Message[]>
  /** Called after the commit. It may be lost in a crash, so it may only hurry what happens anyway. */
  committed?(): void
}

/** Declares a handler of one contract. */
export function handle<C extends Contract>(contract: C, handler: (messages: Message<C>[], tx: Tx) => Promise<Message[]>, committed?: () => void): Handler {
  return { contracts: [contract], handle: handler, committed }
}

/** Adapts code that handles one message at a time. */
export function each<C extends Contract>(handler: (body: BodyOf<C>, message: Message<C>, tx: Tx) => Promise<Message[]>): (messages: Message<C>[], tx: Tx) => Promise<Message[]> {
  return async (messages, tx) => {
    const out: Message[] = []
    for (const message of messages) out.push(...(await handler(message.body, message, tx)))
    return out
  }
}

/** A failure that no retry can mend: the message becomes a dead letter at once. */
export class NotRetryable extends Error {
  override readonly name = 'NotRetryable'
}

export interface EndpointDefinition {
  name: string
  handlers: readonly Handler[]
}

export function endpointTopology({ name, handlers }: EndpointDefinition): EndpointTopology {
  return { name, consumes: handlers.flatMap((handler) => handler.contracts) }
}

export interface EndpointOptions {
  definition: EndpointDefinition
  outbox: Outbox
  transport: Transport
  log: Log
}

interface Received {
  delivery: Delivery
  message: Message
}

/**
 * Consumes one queue. What arrives while a handler is busy becomes its next batch: one transaction of inbox, handler and
 * outbox, and only after its commit the acknowledgements. A transaction holds one handler's messages, so that handlers
 * never mix their lock orders.
 */
export class Endpoint {
  readonly #options: EndpointOptions
  readonly #reader: EnvelopeReader
  readonly #batchers = new Map<Contract, Batcher<Received>>()
  readonly #deadLetters: Batcher<{ delivery: Delivery; letter: DeadLetter }>
  readonly #stopping = new AbortController()
  #subscription: Subscription | undefined

  constructor(options: EndpointOptions) {
    this.#options = options
    const { definition } = options
    this.#reader = new EnvelopeReader(definition.handlers.flatMap((handler) => handler.contracts))
    for (const handler of definition.handlers) {
      const batcher = new Batcher<Received>({
        limit: BATCH,
        work: (batch) => this.#work(handler, batch),
        onError: (error, attempt) => this.#onError(error, attempt),
        failed: ({ delivery, message }, error) => this.#failed(delivery, error, message)
      })
      for (const contract of handler.contracts) {
        if (this.#batchers.has(contract)) throw new Error(`Endpoint ${definition.name} has two handlers for ${contract.name}`)
        this.#batchers.set(contract, batcher)
      }
    }
    this.#deadLetters = new Batcher({
      limit: BATCH,
      work: (batch) => this.#storeDeadLetters(batch),
      onError: (error, attempt) => this.#onError(error, attempt),
      failed: ({ delivery }, error) => this.#giveBack(delivery, error)
    })
  }

  start(): void {
    const { definition, transport } = this.#options
    this.#subscription = transport.subscribe(definition.name, (delivery) => this.#receive(delivery))
  }

  /** Takes nothing new, finishes the transactions that run, gives the rest back to the queue. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    // Deliveries end at once; the cancel itself waits until all that was handed out is settled below.
    const cancelled = this.#subscription?.cancel()
    for (const batcher of new Set(this.#batchers.values())) for (const { delivery } of await batcher.stop()) delivery.requeue()
    for (const { delivery } of await this.#deadLetters.stop()) delivery.requeue()
    await cancelled
  }

  #receive(delivery: Delivery): void {
    if (this.#stopping.signal.aborted) return delivery.requeue()
    let message: Message
    try {
      message = this.#reader.read(delivery.payload)
    } catch (error) {
      return this.#bury(delivery, error)
    }
    this.#batchers.get(message.contract)!.push({ delivery, message })
  }

  async #work(handler: Handler, batch: Received[]): Promise<void> {
    const { definition, outbox } = this.#options
    await outbox.transaction(async (tx) => {
      const fresh = await claim(tx, definition.name, batch.map(({ message }) => message.messageId))
      // `delete` says whether it was still there: the second copy of a message within one batch is dropped too.
      const messages = batch.map(({ message }) => message).filter((message) => fresh.delete(message.messageId))
      if (messages.length > 0) outbox.add(tx, await handler.handle(messages, tx))
    })
    for (const { delivery } of batch) delivery.ack()
    handler.committed?.()
  }

  #onError(error: unknown, attempt: number) {
    const { definition, log } = this.#options
    if (isConflict(error)) return { retryAfterMs: backoff(attempt, 20, 500) }
    if (isUnavailable(error)) {
      if (attempt === 1) log.warn({ err: error, endpoint: definition.name }, 'Database away; the endpoint waits for it')
      return { retryAfterMs: backoff(attempt, 100, 5000) }
    }
    return 'split'
  }

  #failed(delivery: Delivery, error: unknown, message: Message): void {
    if (error instanceof NotRetryable || isBadData(error)) return this.#bury(delivery, error)
    const { definition, log } = this.#options
    const { messageId, correlationId, contract } = message
    log.error({ err: error, endpoint: definition.name, messageId, correlationId, type: contract.name, redeliveries: delivery.redeliveries }, 'Handler failed; the message goes back to its queue')
    this.#giveBack(delivery, error)
  }

  /** Back to the queue, later and later: a failing message must not spin. */
  #giveBack(delivery: Delivery, error: unknown): void {
    if (this.#stopping.signal.aborted) return delivery.requeue()
    this.#options.log.debug({ err: error, messageId: delivery.messageId }, 'Message will be redelivered')
    void pause(backoff(delivery.redeliveries + 1, 100, 5000), this.#stopping.signal).then(() => delivery.requeue())
  }

  /** Keeps what can never be handled as a dead letter, and takes it off the queue once that is committed. */
  #bury(delivery: Delivery, error: unknown): void {
    const { definition, log } = this.#options
    const field = error instanceof UnreadableMessage ? error.field : undefined
    log.error({ err: error, endpoint: definition.name, messageId: delivery.messageId, field }, 'Message cannot be handled; kept as a dead letter')
    this.#deadLetters.push({ delivery, letter: deadLetterOf(definition.name, delivery, error as Error) })
  }

  async #storeDeadLetters(batch: { delivery: Delivery; letter: DeadLetter }[]): Promise<void> {
    await this.#options.outbox.transaction((tx) => storeDeadLetters(tx, batch.map(({ letter }) => letter)))
    for (const { delivery } of batch) delivery.ack()
  }
}
