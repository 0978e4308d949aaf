import type { Channel, Message as AmqpMessage } from 'amqplib/callback_api.js'

/**
 * Acknowledges what one channel has handed out, many with one frame. To a quorum queue every
 * acknowledgement is a command of its own, and RabbitMQ 3.10 holds back all but the first 32 under
 * way: closed then, a channel gave 67 of 100 acknowledged messages out again.
 */
export class Acknowledgements {
  readonly #channel: Channel
  /** Delivery tags handed out and not settled; tags only grow, so they stay in order. */
  readonly #unsettled = new Set<number>()
  #acked = new Set<number>()
  #settled: (() => void) | undefined
  #ending = false
  /**
   * The lowest tag given back while ending. No frame says so, and an acknowledgement of many must
   * not reach past it.
   */
  #givenBack = Infinity
  /**
   * False once the channel is gone: there is nothing to tell then, the broker has taken the
   * messages back.
   */
  open = true

  constructor(channel: Channel) {
    this.#channel = channel
  }

  handedOut(tag: number): void {
    this.#unsettled.add(tag)
  }

  ack(tag: number): void {
    if (!this.open || !this.#unsettled.has(tag)) return
    // A batch acknowledges in one turn of the event loop, and goes out after it.
    if (this.#acked.size === 0) setImmediate(() => this.#flush())
    this.#acked.add(tag)
  }

  requeue(tag: number): void {
    if (!this.open || this.#acked.has(tag) || !this.#unsettled.delete(tag)) return
    // About to close, the channel gives everything back by itself; a frame each would only delay
    // the acknowledgements.
    if (this.#ending) this.#givenBack = Math.min(this.#givenBack, tag)
    else this.#channel.nack(delivery(tag), false, true)
    this.#whenSettled()
  }

  /**
   * The channel is about to close: what is given back from now on goes with it, and is not handed
   * out to us again before.
   */
  end(): void {
    this.#ending = true
  }

  /**
   * The channel is about to close: resolves when nothing that was handed out is in use any more.
   */
  settled(): Promise<void> {
    this.end()
    return new Promise((resolve) => {
      this.#settled = resolve
      this.#whenSettled()
    })
  }

  close(): void {
    this.open = false
  }

  #flush(): void {
    if (!this.open) return
    let upTo = 0
    for (const tag of this.#unsettled) {
      if (!this.#acked.has(tag) || tag > this.#givenBack) break
      upTo = tag
      this.#unsettled.delete(tag)
      this.#acked.delete(tag)
    }
    if (upTo > 0) this.#channel.ack(delivery(upTo), true)
    for (const tag of this.#acked) {
      this.#unsettled.delete(tag)
      this.#channel.ack(delivery(tag))
    }
    this.#acked = new Set()
    this.#whenSettled()
  }

  #whenSettled(): void {
    if (this.#unsettled.size === 0) this.#settled?.()
  }
}

/** All that amqplib wants of a message to settle it. */
function delivery(deliveryTag: number): AmqpMessage {
  return { fields: { deliveryTag } } as AmqpMessage
}
