import type { ConfirmChannel } from 'amqplib/callback_api.js'
import type { Writable } from 'node:stream'
import { CONTENT_TYPE } from '../message/envelope.ts'
import { FRAMES } from '../../quick-ways.ts'
import { FRAME_BYTES, framesOf, ID_BYTES, startOf, type Framed, type Start } from './frames.ts'
import { addressOf } from '../transport/topology.ts'
import { PublishRefused, queueOf, type TransportMessage } from '../transport/transport.ts'

/** Called once the broker has the message, or with the reason why that is not known. */
export type Confirmed = (error: Error | null) => void

/**
 * Whether the broker answered that it does not take the message, which is all that it says. The
 * text is amqplib's.
 */
export function isNack(error: Error): boolean {
  return error.message === 'message nacked'
}

/** What amqplib keeps of a channel and its connection. */
interface Internals {
  ch: number
  pushConfirmCallback(confirmed: Confirmed): void
  connection: { frameMax: number; channels: ({ buffer: Writable } | null)[] }
}

interface Packed extends Framed {
  confirmed: Confirmed
}

/**
 * Publishes over a channel of amqplib's. The quick way gives it what comes in one turn of the event
 * loop as one piece of ready-made frames; the plain way is amqplib's own `publish`, which what is
 * unusual always goes: headers, a body of more than one frame.
 */
export class RabbitPublisher {
  readonly #channel: ConfirmChannel
  readonly #internals: Internals
  readonly #isQuick: boolean
  readonly #starts = { required: new Map<string, Start>(), optional: new Map<string, Start>() }
  #packed: Packed[] = []

  constructor(channel: ConfirmChannel, isQuick = FRAMES.isOpen) {
    this.#channel = channel
    this.#internals = channel as unknown as Internals
    this.#isQuick = isQuick
  }

  publish(message: TransportMessage, confirmed: Confirmed): void {
    try {
      this.#publish(message, confirmed)
    } catch (error) {
      // Headers or names that cannot be encoded, or a channel that has closed: no confirm will
      // come.
      const reason = error as Error
      confirmed(
        this.#isClosed(reason)
          ? reason
          : new PublishRefused('message', `it cannot be encoded for AMQP: ${reason.message}`)
      )
    }
  }

  #isClosed({ name }: Error): boolean {
    const { ch, connection } = this.#internals
    return name === 'IllegalOperationError' || (this.#isQuick && !connection.channels[ch])
  }

  #publish(parcel: TransportMessage, confirmed: Confirmed): void {
    const bodyBytes = Buffer.byteLength(parcel.payload)
    if (this.#isQuick && this.#isUsual(parcel, bodyBytes)) this.#pack(parcel, bodyBytes, confirmed)
    else this.#publishPlainly(parcel, confirmed)
  }

  #isUsual(message: TransportMessage, bodyBytes: number): boolean {
    const { messageId, destination, contentType, headers, expiresMs } = message
    return (
      !headers &&
      expiresMs === undefined &&
      queueOf(destination) === undefined &&
      !contentType &&
      bodyBytes > 0 &&
      bodyBytes <= this.#internals.connection.frameMax - FRAME_BYTES &&
      messageId.length === ID_BYTES
    )
  }

  #publishPlainly(
    {
      messageId,
      destination,
      required,
      payload,
      contentType,
      headers,
      expiresMs
    }: TransportMessage,
    confirmed: Confirmed
  ): void {
    this.#flush()
    const queue = queueOf(destination)
    const options = {
      messageId,
      mandatory: required,
      persistent: true,
      contentType: contentType ?? CONTENT_TYPE,
      headers: headers ?? {},
      expiration: expiresMs
    }
    const { exchange, routingKey } = addressOf(destination)
    this.#channel.publish(
      queue === undefined ? exchange : '',
      queue ?? routingKey,
      typeof payload === 'string' ? Buffer.from(payload) : payload,
      options,
      confirmed
    )
  }

  #pack(
    { messageId, destination, required, payload }: TransportMessage,
    bodyBytes: number,
    confirmed: Confirmed
  ): void {
    const start = this.#startFor(destination, required)
    if (this.#packed.length === 0) process.nextTick(() => this.#flush())
    this.#packed.push({ messageId, payload, start, bodyBytes, confirmed })
  }

  #startFor(destination: string, required: boolean): Start {
    const starts = required ? this.#starts.required : this.#starts.optional
    let start = starts.get(destination)
    if (!start)
      starts.set(destination, (start = startOf(this.#internals.ch, destination, required)))
    return start
  }

  #flush(): void {
    const packed = this.#packed
    if (packed.length === 0) return
    this.#packed = []
    const { ch, connection } = this.#internals
    const open = connection.channels[ch]
    if (!open) {
      for (const { confirmed } of packed)
        confirmed(new Error('the channel closed before the message was sent'))
      return
    }
    for (const { confirmed } of packed) this.#internals.pushConfirmCallback(confirmed)
    open.buffer.write(framesOf(ch, packed))
  }
}
