import { messageTurns } from '../async/turns.ts'
import type { Delivery } from './transport.ts'

/**
 * Payloads up to so many bytes are read as they arrive, and do not count: 200 of them, as objects,
 * take 16 MB at the worst.
 */
const SMALL = 4096
/**
 * Bytes of larger payloads that a consumer has read and not settled; one it may always have. As
 * objects they take up to twenty times as
 * much memory: 200 prefetched messages of 1 MiB would take 4 GB.
 */
export const MOST_BYTES_IN_HAND = 2 * 1024 * 1024

interface Unread {
  delivery: Delivery
  read(delivery: Delivery): void
}

/**
 * Hands a consumer's deliveries on to be read: small ones at once, large ones in turns with all
 * that is read in this process, and no
 * more of them than fit in memory. So a batch is limited by bytes, too.
 */
export class Reading {
  readonly #turns = messageTurns
  #unread: Unread[] = []
  #inHand = 0
  #isWaiting = false

  /**
   * @param read gets the delivery, perhaps on a later turn of the event loop: never after stop().
   * It must not throw.
   */
  take(delivery: Delivery, read: (delivery: Delivery) => void): void {
    const { length } = delivery.payload
    if (length <= SMALL && this.#unread.length === 0 && this.#turns.isFree(length))
      return read(delivery)
    this.#unread.push({ delivery, read })
    this.#wait()
  }

  /** Gives back what was not handed on. */
  stop(): Delivery[] {
    return this.#unread.splice(0).map(({ delivery }) => delivery)
  }

  #wait(): void {
    if (this.#isWaiting) return
    const next = this.#unread.find(({ delivery: { payload } }) => this.#fits(payload.length))
    if (!next) return
    this.#isWaiting = true
    this.#turns.later(next.delivery.payload.length, () => {
      this.#isWaiting = false
      const index = this.#unread.indexOf(next)
      if (index >= 0) {
        this.#unread.splice(index, 1)
        next.read(this.#counted(next.delivery))
      }
      this.#wait()
    })
  }

  #fits(length: number): boolean {
    return length <= SMALL || this.#inHand === 0 || this.#inHand + length <= MOST_BYTES_IN_HAND
  }

  /** Room is made as it is settled. */
  #counted(delivery: Delivery): Delivery {
    const { length } = delivery.payload
    if (length <= SMALL) return delivery
    this.#inHand += length
    let isSettled = false
    const settling = (action: () => void) => () => {
      if (!isSettled) {
        isSettled = true
        this.#inHand -= length
        this.#wait()
      }
      action()
    }
    return {
      ...delivery,
      ack: settling(() => delivery.ack()),
      requeue: settling(() => delivery.requeue())
    }
  }
}
