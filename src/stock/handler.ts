import { OrderCreatedEvent } from '../contracts/order.ts'
import { ReleaseStock } from '../contracts/stock.ts'
import type { Handler } from '../messaging/endpoint.ts'
import type { Message } from '../messaging/message.ts'
import { lockProducts } from './products.ts'
import { releaseStock, reservedProducts } from './release.ts'
import { reserveStock } from './reserve.ts'

/**
 * Reserves and releases in one transaction: in two of their own each would wait for the products that the other has
 * locked, and for its commit.
 */
export const stockHandler: Handler = {
  contracts: [OrderCreatedEvent, ReleaseStock],
  async handle(messages, tx) {
    const orders = messages.filter((message): message is Message<typeof OrderCreatedEvent> => message.contract === OrderCreatedEvent)
    const releases = messages.filter((message): message is Message<typeof ReleaseStock> => message.contract === ReleaseStock)
    if (releases.length === 0) return reserveStock(orders, tx)
    if (orders.length === 0) return releaseStock(releases, tx)
    // All products of both at once, in key order; locking them again below waits for nobody.
    await lockProducts(tx, [...orders.flatMap(({ body }) => body.items.map(({ productId }) => productId)), ...(await reservedProducts(releases, tx))])
    const released = await releaseStock(releases, tx)
    return [...released, ...(await reserveStock(orders, tx))]
  }
}
