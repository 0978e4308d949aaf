import { setTimeout as sleep } from 'node:timers/promises'
import { Api, type Answer } from './api.ts'
import { until, type Waiting } from './until.ts'

/** How long a customer thinks before another order, when enough have been placed, ms. */
const TRICKLE_MS = 200

export interface ShopOptions {
  /** Waits while a program is started again, as a client does that backs off. */
  api: () => Promise<Api>
  products: readonly string[]
  /** Of each product. */
  putIn: number
  /** Of an order: so many products in a row, every other time backwards. */
  lines: number
  /** Payment methods, in turn. */
  methods: readonly string[]
  /** Customers who order at the same time. */
  customers: number
}

/**
 * Customers who retry like real clients: under one Idempotency-Key, until they have an answer.
 * Every tenth gives up.
 */
export class Shop {
  /** Orders that were answered with 202. */
  readonly accepted = new Set<string>()
  readonly #options: ShopOptions
  /** By key, the orders that were answered. */
  readonly #byKey = new Map<string, Set<string>>()
  #placed = 0
  #answered = 0
  /** The last answer that was none, or why there was none. */
  #refusal = ''

  constructor(options: ShopOptions) {
    this.#options = options
  }

  /** What the customers know. */
  evidence() {
    const { products, putIn } = this.#options
    return { products, putIn, accepted: this.accepted, byKey: this.#byKey }
  }

  async open(): Promise<void> {
    const { products, putIn } = this.#options
    for (const productId of products)
      await until(`${productId} is on the shelf`, () => this.#put(productId, putIn), this.#waiting)
  }

  /** Places orders: so many as fast as can be, then a trickle until it is enough. */
  async placeOrders(atLeast: number, enough = () => true): Promise<void> {
    const last = this.#placed + atLeast
    const customer = async () => {
      while (this.#placed < last || !enough()) {
        if (this.#placed >= last) await sleep(TRICKLE_MS)
        await this.#place(this.#placed++)
      }
    }
    await Promise.all(Array.from({ length: this.#options.customers }, customer))
  }

  /** Places one order that goes through, and returns its id. */
  async placeOne(): Promise<string> {
    const index = this.#placed++
    return (
      await until(
        `order ${index} is answered`,
        () => this.#order(index, `order-${index}`),
        this.#waiting
      )
    ).orderId
  }

  answered(count: number): Promise<unknown> {
    return until(`${count} orders are answered`, async () => this.#answered >= count, this.#waiting)
  }

  /** While others are answered, one that is not yet may wait. */
  get #waiting(): Waiting {
    return {
      progress: () => `${this.#answered} orders answered`,
      tell: () => `${this.#placed} placed; the last refusal: ${this.#refusal || 'none'}`
    }
  }

  /**
   * It may be there already, by a request whose answer was lost, or as a sample with other units.
   */
  async #put(productId: string, onHand: number): Promise<boolean> {
    const path = `/products/${productId}`
    const etag = await this.#options
      .api()
      .then((api) => api.call('GET', path))
      .then(
        ({ headers }) => headers.get('etag'),
        () => null
      )
    const product = { name: productId, unitPrice: 1000, currency: 'EUR', onHand }
    const answer = await this.#try(
      'PUT',
      path,
      product,
      etag === null ? {} : { 'if-match': etag },
      [412, 428]
    )
    return answer?.onHand === onHand
  }

  async #place(index: number): Promise<void> {
    if (index % 10 === 0) await this.#order(index)
    else
      await until(
        `order ${index} is answered`,
        () => this.#order(index, `order-${index}`),
        this.#waiting
      )
    this.#answered++
  }

  async #order(index: number, key?: string): Promise<Answer['body']> {
    const { products, lines, methods } = this.#options
    const items = Array.from({ length: lines }, (_, line) => ({
      productId: products[(index + line) % products.length]!,
      quantity: line === 0 ? 1 + (index % 2) : 1
    }))
    const order = {
      customerId: `customer-${index}`,
      items: index % 2 === 0 ? items : items.toReversed(),
      paymentMethod: methods[index % methods.length]
    }
    const body = await this.#try(
      'POST',
      '/orders',
      order,
      key === undefined ? {} : { 'idempotency-key': key }
    )
    if (!body) return undefined
    this.accepted.add(body.orderId)
    if (key !== undefined)
      this.#byKey.set(key, (this.#byKey.get(key) ?? new Set()).add(body.orderId))
    return body
  }

  /** The answer, or nothing when the connection was cut or the service is not there. */
  async #try(
    method: string,
    path: string,
    body: unknown,
    headers?: Record<string, string>,
    read: readonly number[] = []
  ): Promise<Answer['body']> {
    try {
      const api = await this.#options.api()
      const answer = await api.call(method, path, body, headers)
      if (answer.status < 300 || read.includes(answer.status)) return answer.body
      this.#refusal = `${answer.status} ${answer.text}`
      if (answer.status !== 503)
        throw new Error(
          `${method} ${path} answered ${answer.status}: ${JSON.stringify(answer.body)}`
        )
    } catch (error) {
      if (!(error instanceof TypeError)) throw error
      this.#refusal = error.cause instanceof Error ? error.cause.message : error.message
    }
    return undefined
  }
}
