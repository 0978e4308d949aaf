import assert from 'node:assert/strict'
import type { OrderRequest } from '../support/api.ts'
import type { MixedShop } from './mixed-shop.ts'

export interface Journey {
  /** A column of the matrix. */
  name: string
  /** @throws Error when something is not as it must be */
  run(shop: MixedShop): Promise<void>
}

/** Places an order and holds its end to what is expected. */
async function ends(
  shop: MixedShop,
  order: OrderRequest,
  expected: { status: string; reason: string | null; reservation: string; payment?: string }
): Promise<string> {
  const orderId = await shop.place(order)
  const { status, reason } = await shop.settled(orderId)
  assert.deepEqual(
    {
      status,
      reason,
      reservation: await shop.reservation(orderId),
      payment: await shop.payment(orderId)
    },
    { payment: undefined, ...expected }
  )
  return orderId
}

const items = (productId: string, quantity: number) => [{ productId, quantity }]

export const journeys: Journey[] = [
  {
    name: 'completed',
    async run(shop) {
      await shop.putProduct('completed', 10)
      const orderId = await ends(
        shop,
        { items: items('completed', 2), expectedTotal: 2000 },
        { status: 'Completed', reason: null, reservation: 'Reserved', payment: 'Completed' }
      )
      assert.equal(await shop.shelf('completed'), '8+2')
      const { envelope } = await shop.wire.arrived('OrderCompletedEvent', orderId)
      assert.equal(envelope.message['total'], 2000)
    }
  },
  {
    name: 'declined',
    async run(shop) {
      await shop.putProduct('declined', 10)
      await ends(
        shop,
        { items: items('declined', 2), paymentMethod: 'pm_card_chargeDeclined' },
        {
          status: 'Failed',
          reason: 'CardDeclined',
          reservation: 'Released',
          payment: 'Failed'
        }
      )
      assert.equal(await shop.shelf('declined'), '10+0')
    }
  },
  {
    name: 'out of stock',
    async run(shop) {
      await shop.putProduct('scarce', 1)
      await ends(
        shop,
        { items: items('scarce', 2) },
        { status: 'Failed', reason: 'OutOfStock', reservation: 'Refused' }
      )
      assert.equal(await shop.shelf('scarce'), '1+0')
    }
  },
  {
    name: 'unknown product',
    run: async (shop) =>
      void (await ends(
        shop,
        { items: items('never-heard-of', 1) },
        { status: 'Failed', reason: 'UnknownProduct', reservation: 'Refused' }
      ))
  },
  {
    name: 'price changed',
    async run(shop) {
      await shop.putProduct('repriced', 10, 1200)
      await ends(
        shop,
        { items: items('repriced', 1), expectedTotal: 1000 },
        { status: 'Failed', reason: 'PriceChanged', reservation: 'Refused' }
      )
    }
  },
  {
    name: 'twice',
    async run(shop) {
      await shop.putProduct('twice', 10)
      const orderId = await ends(
        shop,
        { items: items('twice', 1) },
        { status: 'Completed', reason: null, reservation: 'Reserved', payment: 'Completed' }
      )
      await shop.wire.arrived('OrderCompletedEvent', orderId)
      for (const seen of shop.wire.all(orderId)) await shop.wire.repeat(seen)
      // Another order behind them, on the same queues.
      await ends(
        shop,
        { items: items('twice', 1) },
        { status: 'Completed', reason: null, reservation: 'Reserved', payment: 'Completed' }
      )
      assert.equal(await shop.shelf('twice'), '8+2')
      assert.equal((await shop.order(orderId))?.status, 'Completed')
    }
  }
]
