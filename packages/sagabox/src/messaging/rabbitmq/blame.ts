import { addressOf } from '../transport/topology.ts'
import { PublishRefused, type TransportMessage } from '../transport/transport.ts'

/**
 * The broker's words when a message goes to an exchange that is not there, or that this user may
 * not write to.
 */
const NO_EXCHANGE = /\b(NOT_FOUND|ACCESS_REFUSED)\b.*exchange '(?<exchange>.*?)' in vhost/s
/** And when a message is larger than the broker allows. */
const TOO_LARGE = /message size (?<size>\d+)\b.*\bmax size (?<max>\d+)/s

interface Cause {
  exchange?: string
  size?: number
  max?: number
}

/**
 * The broker answers some messages by closing their channel, and takes all that are under way on it
 * with them. Its words tell which it was;
 * what may bring that about again is suspect until it has gone well.
 */
export class Blame {
  readonly #exchanges = new Set<string>()
  /** The largest message that the broker takes, bytes, as far as it has said. */
  #largest = Infinity

  /** Whether the message may take its channel from others. */
  suspects({ destination, payload }: TransportMessage): boolean {
    if (this.#exchanges.size > 0 && this.#exchanges.has(addressOf(destination).exchange))
      return true
    return this.#largest !== Infinity && Buffer.byteLength(payload) > this.#largest
  }

  /**
   * Why the channel went. Whoever was the cause is suspect from now on.
   * @returns false when none of the messages that were under way was
   */
  assign(error: Error, underWay: readonly TransportMessage[]): boolean {
    const cause = causeOf(error)
    if (!underWay.some((message) => isCause(cause, message))) return false
    if (cause.exchange !== undefined) this.#exchanges.add(cause.exchange)
    if (cause.max !== undefined) this.#largest = cause.max
    return true
  }

  /** The broker's answer to this message; undefined: the channel went for another reason. */
  refusalOf(error: Error, message: TransportMessage): PublishRefused | undefined {
    const cause = causeOf(error)
    if (!isCause(cause, message)) return undefined
    return new PublishRefused(
      cause.exchange === undefined ? 'message' : 'destination',
      error.message
    )
  }

  /** It went well, alone: so do others like it. */
  acquit({ destination, payload }: TransportMessage): void {
    this.#exchanges.delete(addressOf(destination).exchange)
    this.#largest = Math.max(this.#largest, Buffer.byteLength(payload))
  }
}

function causeOf({ message }: Error): Cause {
  const exchange = NO_EXCHANGE.exec(message)?.groups?.['exchange']
  if (exchange !== undefined) return { exchange }
  const { size, max } = TOO_LARGE.exec(message)?.groups ?? {}
  return size === undefined ? {} : { size: Number(size), max: Number(max) }
}

function isCause({ exchange, size }: Cause, { destination, payload }: TransportMessage): boolean {
  return exchange === undefined
    ? size !== undefined && Buffer.byteLength(payload) === size
    : addressOf(destination).exchange === exchange
}
