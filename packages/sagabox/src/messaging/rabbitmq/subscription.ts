import type { Channel, Connection, Message as AmqpMessage } from 'amqplib/callback_api.js'
import { numberIn } from '../transport/headers.ts'
import type { Log } from '../async/log.ts'
import { pause } from '../async/batcher.ts'
import { Acknowledgements } from './acknowledgements.ts'
import { queueState } from './look.ts'
import {
  CLOSE_TIMEOUT_MS,
  closeConnection,
  keepAlive,
  openChannel,
  SETUP_TIMEOUT_MS,
  Unreachable
} from './connection.ts'
import type { Delivery, Headers, Subscription } from '../transport/transport.ts'
import { atMost, orTimeout } from '../async/timeout.ts'

/** How often it is looked for a queue that may not be there, ms. */
const LOOK_MS = 5000

/** AMQP's limit for a property or the name of a header. */
const SHORT_TEXT_BYTES = 255

export interface RabbitSubscriptionOptions {
  endpoint: string
  receive(delivery: Delivery): void
  /** Messages handed out and not yet acknowledged. */
  most: number
  /** The queue may not be there yet: it is waited for, and that is no problem. */
  mayLack?: boolean
  connect(): Promise<Connection>
  /** Declares the queue on each connection, where the topology does not. */
  declare?(channel: Channel): Promise<void>
  log: Log
}

/** Consumes one queue on a connection of its own, and again after every interruption. */
export class RabbitSubscription implements Subscription {
  readonly #options: RabbitSubscriptionOptions
  readonly #cancelled = new AbortController()
  #problem: string | undefined
  #running: Promise<void> | undefined

  constructor(options: RabbitSubscriptionOptions) {
    this.#options = options
    if (!options.mayLack) this.#problem = `not consuming ${options.endpoint} yet`
  }

  start(): void {
    const { endpoint, log } = this.#options
    this.#running ??= keepAlive(
      () => this.#session(),
      this.#cancelled.signal,
      (error) => {
        this.#problem = `not consuming ${endpoint}: ${error.message}`
        if (!(error instanceof Unreachable))
          log.warn({ endpoint, reason: error.message }, 'Consuming was interrupted; trying again')
      }
    )
  }

  problem(): string | undefined {
    return this.#problem
  }

  /** Stops the deliveries at once, then waits (bounded) until those handed out are settled. */
  async cancel(): Promise<void> {
    this.#cancelled.abort()
    await atMost(3 * CLOSE_TIMEOUT_MS, this.#running)
  }

  /** One life of the consumer. */
  async #session(): Promise<void> {
    const connection = await this.#options.connect()
    try {
      if (this.#options.mayLack && !(await this.#awaitQueue(connection))) return
      const { channel, closed } = await openChannel(connection, 'consume')
      const { declare, endpoint } = this.#options
      if (declare) {
        const gone = closed.then((error) => {
          throw error ?? new Error('the channel closed')
        })
        const declaring = Promise.race([declare(channel), gone])
        await orTimeout(SETUP_TIMEOUT_MS, `RabbitMQ did not declare ${endpoint}`, declaring)
        gone.catch(() => {})
      }
      const lost = await this.#consume(channel, closed)
      if (!this.#cancelled.signal.aborted) throw lost ?? new Error('the channel closed')
    } finally {
      await closeConnection(connection)
    }
  }

  /** Returns whether it is there: else nobody wants it any more. */
  async #awaitQueue(connection: Connection): Promise<boolean> {
    const { endpoint } = this.#options
    while (!this.#cancelled.signal.aborted) {
      if (await queueState(connection, endpoint)) return true
      this.#problem = undefined
      await pause(LOOK_MS, this.#cancelled.signal)
    }
    return false
  }

  async #consume(channel: Channel, closed: Promise<Error | undefined>): Promise<Error | undefined> {
    const { endpoint, most, log } = this.#options
    const acks = new Acknowledgements(channel)
    const ended = closed.then((error) => {
      acks.close()
      return error
    })
    let endedByBroker!: (error: Error) => void
    const consumerGone = new Promise<Error>((resolve) => (endedByBroker = resolve))
    const consuming = new Promise<string>((resolve, reject) => {
      void ended.then((error) => reject(error ?? new Error('the channel closed')))
      // Prefetch a consumer, never a channel: global prefetch closes the connection on a quorum
      // queue.
      channel.prefetch(most, false)
      channel.consume(
        endpoint,
        (message) => {
          if (message) this.#take(acks, message)
          else
            endedByBroker(
              new Error(`the broker ended the consumer of ${endpoint}: its queue is gone`)
            )
        },
        {},
        (error: Error | null, { consumerTag } = { consumerTag: '' }) =>
          error ? reject(error) : resolve(consumerTag)
      )
    })
    const consumerTag = await orTimeout(
      SETUP_TIMEOUT_MS,
      `RabbitMQ did not begin to deliver ${endpoint}`,
      consuming
    )
    this.#problem = undefined
    log.info({ endpoint }, 'Consuming from RabbitMQ')
    const stopped = new Promise<undefined>((resolve) => {
      if (this.#cancelled.signal.aborted) resolve(undefined)
      this.#cancelled.signal.addEventListener(
        'abort',
        () => {
          // At once: whoever cancels may give back in the same turn.
          acks.end()
          resolve(undefined)
        },
        { once: true }
      )
    })
    const lost = await Promise.race([ended, consumerGone, stopped])
    if (this.#cancelled.signal.aborted && acks.open) {
      channel.cancel(consumerTag)
      await atMost(2 * CLOSE_TIMEOUT_MS, Promise.race([ended, acks.settled()]))
      // Closing the connection right away would overtake the last acknowledgements.
      const isOpen = acks.open
      // A channel that is being closed throws at whoever acknowledges.
      acks.close()
      if (isOpen)
        await atMost(
          CLOSE_TIMEOUT_MS,
          new Promise<void>((resolve) => channel.close(() => resolve()))
        )
    }
    acks.close()
    return lost
  }

  #take(acks: Acknowledgements, message: AmqpMessage): void {
    const contentType = shortText(message.properties.contentType)
    const messageId = shortText(message.properties.messageId)
    const headers = (message.properties.headers ?? {}) as Headers
    const tag = message.fields.deliveryTag
    acks.handedOut(tag)
    this.#options.receive({
      payload: message.content,
      contentType,
      messageId,
      headers,
      // Quorum queues count; the flag is there on any queue.
      redeliveries: Math.max(
        numberIn(headers, 'x-delivery-count') ?? 0,
        message.fields.redelivered ? 1 : 0
      ),
      ack: () => acks.ack(tag),
      requeue: () => acks.requeue(tag)
    })
  }
}

/**
 * Bytes that are no UTF-8 arrive as U+FFFD, which takes three to write: too many of them, and
 * nothing that carries the text on, a dead letter among it, could be sent.
 */
function shortText(text: unknown): string | undefined {
  if (typeof text !== 'string') return undefined
  return text.length <= SHORT_TEXT_BYTES / 3 || Buffer.byteLength(text) <= SHORT_TEXT_BYTES
    ? text
    : text.slice(0, SHORT_TEXT_BYTES / 3)
}
