import { BatchJudge } from './batch-judge.ts'
import { Blockers } from './blockers.ts'
import { Consumer } from '../inbox/consumer.ts'
import { DeadLetterCollector } from '../dead-letters/collector.ts'
import { DeadLetterSender } from '../dead-letters/sender.ts'
import { Endings } from './endings.ts'
import { EnvelopeReader, type MessageReader } from '../message/envelope.ts'
import { RawReader } from '../message/raw-reader.ts'
import type { Handler } from './handler.ts'
import { Lanes } from './lane.ts'
import { LockWaits } from './lock-waits.ts'
import type { Log } from '../async/log.ts'
import type { Contract, Message } from '../message/message.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { Reading } from '../transport/reading.ts'
import { Semaphore } from '../async/semaphore.ts'
import { Redelivery } from './redelivery.ts'
import { DEFAULT_RETRY, type RetryPolicy } from '../inbox/retry.ts'
import { Suspects } from './suspects.ts'
import type { EndpointTopology } from '../transport/topology.ts'
import type { Delivery, Transport } from '../transport/transport.ts'

/** How much an endpoint does at once, in one process. */
export interface Concurrency {
  /** Messages in hand: handed out by the broker and not acknowledged. 200 when not given. */
  readonly messages?: number
  /** Transactions of handlers; two a handler when not given, one of them for what failed. */
  readonly transactions?: number
}

export interface EndpointDefinition {
  name: string
  concurrency?: Concurrency
  handlers: readonly Handler[]
  /** Where it differs from DEFAULT_RETRY. */
  retry?: Partial<RetryPolicy>
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

/**
 * Consumes one queue: messages that arrive while a handler is busy become its next batch, handled
 * in one transaction of inbox, handler and outbox, and acknowledged after its commit. A batch never
 * mixes two handlers, which might lock rows in opposite orders.
 */
export class Endpoint {
  readonly #endpoint: string
  readonly #log: Log
  readonly #reader: MessageReader
  readonly #reading = new Reading()
  /** One of each handler. */
  readonly #lanes: Lanes[] = []
  readonly #lanesOf = new Map<Contract, Lanes>()
  readonly #locks = new LockWaits()
  readonly #suspects: Suspects
  readonly #endings: Endings
  readonly #redelivery: Redelivery
  readonly #deadLetters: DeadLetterSender
  readonly #collector: DeadLetterCollector
  readonly #consumer: Consumer

  constructor(options: EndpointOptions) {
    const { definition, outbox, transport, log } = options
    const { name: endpoint, concurrency } = definition
    this.#log = log
    this.#endpoint = endpoint
    this.#reader = readerOf(endpointTopology(definition).consumes, transport.address)
    this.#deadLetters = new DeadLetterSender(endpoint, transport, log)
    this.#collector = new DeadLetterCollector(endpoint, this.#reader, options)
    this.#suspects = new Suspects(endpoint, outbox, log)
    this.#consumer = new Consumer({
      endpoint,
      outbox,
      log,
      subscribe: () => [
        transport.subscribe(endpoint, (delivery) => this.#receive(delivery), concurrency?.messages)
      ],
      giveBack: () => this.#giveBackWaiting(),
      resume: () => this.#suspects.forget()
    })
    const consumer = this.#consumer
    const suspects = this.#suspects
    const locks = this.#locks
    const deadLetters = this.#deadLetters
    const endings = new Endings({ endpoint, deadLetters, suspects, locks, log })
    const redelivery = new Redelivery({ endpoint, outbox, consumer, endings })
    const judge = new BatchJudge(consumer, locks)
    const blockers = new Blockers(outbox, log)
    const messages = { suspects, endings, redelivery }
    const turns =
      concurrency?.transactions === undefined ? undefined : new Semaphore(concurrency.transactions)
    const shared = { endpoint, outbox, consumer, judge, locks, blockers, log, turns, ...messages }
    this.#endings = endings
    this.#redelivery = redelivery
    for (const handler of definition.handlers) {
      const policy = { ...DEFAULT_RETRY, ...definition.retry, ...handler.retry }
      this.#assign(endpoint, handler, new Lanes(handler, policy, shared))
    }
  }

  #assign(endpoint: string, handler: Handler, lanes: Lanes): void {
    this.#lanes.push(lanes)
    for (const contract of handler.contracts) {
      if (this.#lanesOf.has(contract)) {
        throw new Error(`Endpoint ${endpoint} has two handlers for ${contract.name}`)
      }
      this.#lanesOf.set(contract, lanes)
    }
  }

  start(): void {
    this.#collector.start()
    this.#consumer.start()
  }

  /**
   * Takes nothing until it is resumed: what runs is finished, the rest goes back to the queue.
   * Resolves when it has. Dead letters are still collected.
   */
  async pause(): Promise<void> {
    await this.#consumer.pause()
    await this.#suspects.forget()
  }

  resume(): void {
    this.#consumer.resume()
  }

  /** Takes nothing new, finishes the transactions that run, gives the rest back to the queue. */
  async stop(): Promise<void> {
    // Deliveries end at once; the stop itself waits until all that was handed out is settled below.
    const cancelled = this.#consumer.stop()
    for (const delivery of this.#reading.stop()) delivery.requeue()
    for (const lanes of this.#lanes) await lanes.stop()
    await this.#redelivery.stop()
    await this.#deadLetters.stop()
    await Promise.all([this.#suspects.forget(), cancelled, this.#collector.stop()])
  }

  #giveBackWaiting(): void {
    this.#locks.clear()
    for (const delivery of this.#reading.stop()) delivery.requeue()
    for (const lanes of this.#lanes) lanes.giveBack()
    this.#redelivery.giveBack()
  }

  #receive(delivery: Delivery): void {
    if (this.#consumer.givesBack) return delivery.requeue()
    this.#reading.take(delivery, (one) => this.#read(one))
  }

  #read(delivery: Delivery): void {
    let message: Message
    try {
      message = this.#reader.read(delivery.payload, delivery.contentType, delivery)
    } catch (error) {
      return this.#endings.buryUnread(delivery, error)
    }
    if (message.asked) this.#look(message)
    this.#lanesOf.get(message.contract)!.push(delivery, message)
  }
  /** It is handled all the same: only its answer would go where a stranger points. */
  #look({ asked, contract, messageId }: Message): void {
    if (asked!.refused.length === 0) return
    this.#log.warn(
      { endpoint: this.#endpoint, type: contract.name, messageId, addresses: asked!.refused },
      'A request wants its answer at what is no queue of this broker: it gets none'
    )
  }
}

/** What has no envelope says nothing of its type: its queue is for it alone. */
function readerOf(consumes: readonly Contract[], bus: string): MessageReader {
  const [only] = consumes
  return only?.foreign && consumes.length === 1
    ? new RawReader(only)
    : new EnvelopeReader(consumes, bus)
}
