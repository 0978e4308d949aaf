import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../support/until.ts'
import type { MixedShop } from './mixed-shop.ts'

/** A customer who orders one unit of a product, so many times a second. */
export class Load {
  readonly #shop: MixedShop
  readonly #productId: string
  readonly #orders: string[] = []
  readonly #ended: Promise<void>
  #tried = 0
  #stopped = false

  private constructor(shop: MixedShop, productId: string, perSecond: number) {
    this.#shop = shop
    this.#productId = productId
    this.#ended = this.#run(1000 / perSecond)
  }

  static start(shop: MixedShop, productId: string, perSecond: number): Load {
    return new Load(shop, productId, perSecond)
  }

  /** Resolves when so many more orders were accepted. */
  async placed(count: number): Promise<void> {
    const wanted = this.#orders.length + count
    await until(`${wanted} orders are placed`, async () => this.#orders.length >= wanted, {
      progress: () => this.#orders.length,
      tell: () => this.#shop.lastWords
    })
  }

  /** Resolves when so many more were asked for, accepted or not. */
  async tried(count: number): Promise<void> {
    const wanted = this.#tried + count
    await until(`${wanted} orders are asked for`, async () => this.#tried >= wanted)
  }

  /** Stops, and holds every order to its end: completed, reserved once and paid once. */
  async allCompleted(): Promise<void> {
    this.#stopped = true
    await this.#ended
    const open = new Set(this.#orders)
    await this.#shop.explained(
      () => [...open.keys()][0] ?? '',
      until(
        `all of ${open.size} orders have ended`,
        async () => {
          for (const orderId of open.keys()) await this.#look(orderId, open)
          return open.size === 0
        },
        { progress: () => open.size }
      )
    )
    const reserved = await this.#shop.query(
      `select order_id from stock_service.reservation_lines join stock_service.reservations
         using (order_id) where reservation_lines.product_id = $1 and status = 'Reserved'`,
      [this.#productId]
    )
    const [shelf] = await this.#shop.query(
      'select on_hand + reserved as put_in, reserved from stock_service.products where product_id = $1',
      [this.#productId]
    )
    assert.equal(
      Number(shelf!['reserved']),
      reserved.length,
      'units held, and orders that hold one'
    )
    const ids = new Set(reserved.map((row) => row['order_id']))
    assert.deepEqual(
      this.#orders.filter((orderId) => !ids.has(orderId)),
      [],
      'orders without a reservation'
    )
    const payments = await this.#shop.query(
      `select order_id, status, amount from payment_service.payments where order_id = any($1)`,
      [this.#orders]
    )
    assert.equal(payments.length, this.#orders.length)
    for (const { status, amount } of payments)
      assert.deepEqual({ status, amount }, { status: 'Completed', amount: '1000' })
  }

  async #look(orderId: string, open: Set<string>): Promise<void> {
    const order = await this.#shop.order(orderId)
    if (!order?.settled) return
    assert.equal(order.status, 'Completed', `${orderId}: ${order.reason}`)
    open.delete(orderId)
  }

  async #run(pauseMs: number): Promise<void> {
    while (!this.#stopped) {
      this.#tried++
      await this.#shop.place({ items: [{ productId: this.#productId, quantity: 1 }] }).then(
        (orderId) => this.#orders.push(orderId),
        () => {} // the order service is away: a customer tries again
      )
      await sleep(pauseMs)
    }
  }
}
