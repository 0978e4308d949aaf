import type { TransportMessage } from '../../packages/sagabox/src/messaging/transport/transport.ts'
import type { Route } from './case.ts'

/** The customer of an order tells its place in the case. */
export function customerOf(order: number): string {
  return `customer-${order}`
}

interface Seen {
  type: string
  orderId: string | undefined
  customerId: string | undefined
}

/** What is done to the messages of a case, and what was sent: it outlives the process. */
export class Traffic {
  readonly #orders = new Map<string, number>()
  readonly #sent = new Map<number, Map<string, TransportMessage>>()
  readonly #held = new Set<string>()
  readonly #lostAcks = new Set<string>()

  /** Another case begins. */
  clear(): void {
    this.#orders.clear()
    this.#sent.clear()
    this.calm()
  }

  /** Messages come and go as they should. */
  calm(): void {
    this.#held.clear()
    this.#lostAcks.clear()
  }

  note(message: TransportMessage): void {
    const { type, orderId, customerId } = look(message.payload)
    if (orderId === undefined) return
    if (type === 'OrderCreatedEvent')
      this.#orders.set(orderId, Number(customerId!.split('-').at(-1)))
    const order = this.#orders.get(orderId)
    if (order === undefined) return
    const ofOrder = this.#sent.get(order) ?? new Map<string, TransportMessage>()
    this.#sent.set(order, ofOrder.set(message.messageId, message))
  }

  /** Every message sent for an order, once, in the order of their first sending. */
  sentFor(order: number): TransportMessage[] {
    return [...(this.#sent.get(order)?.values() ?? [])]
  }

  /** Whether a text names an order of the case. */
  knows(text: string): boolean {
    return [...this.#orders.keys()].some((orderId) => text.includes(orderId))
  }

  hold(order: number, route: Route): void {
    this.#held.add(keyOf(order, route))
  }

  release(order: number, route: Route): void {
    this.#held.delete(keyOf(order, route))
  }

  loseAck(order: number, route: Route): void {
    this.#lostAcks.add(keyOf(order, route))
  }

  holds(endpoint: string, payload: string | Buffer): boolean {
    return this.#keysOf(endpoint, payload).some((key) => this.#held.has(key))
  }

  /** Whether this acknowledgement is to be lost; the next is not. */
  losesAck(endpoint: string, payload: string | Buffer): boolean {
    return this.#keysOf(endpoint, payload).some((key) => this.#lostAcks.delete(key))
  }

  #keysOf(endpoint: string, payload: string | Buffer): string[] {
    const { type, orderId } = look(payload)
    return [type, '*'].map((name) => keyOf(this.#orders.get(orderId ?? ''), [endpoint, name]))
  }
}

function look(payload: string | Buffer): Seen {
  const { messageType, message } = JSON.parse(payload.toString()) as {
    messageType: string[]
    message: { orderId?: string; customerId?: string }
  }
  return {
    type: messageType[0]!.split(':').at(-1)!,
    orderId: message.orderId,
    customerId: message.customerId
  }
}

function keyOf(order: number | undefined, [endpoint, type]: readonly [string, string]): string {
  return `${order} ${endpoint} ${type}`
}
