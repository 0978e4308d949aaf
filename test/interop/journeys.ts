import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import type { OrderRequest } from '../support/api.ts'
import type { Scope } from '../support/program.ts'
import { until } from '../support/until.ts'
import { Load } from './load.ts'
import { MixedShop, type ServiceName } from './mixed-shop.ts'
import { tracesOf } from './wire.ts'

export interface Journey {
  /** A column of the matrix. */
  name: string
  /** @throws Error when something is not as it must be */
  run(shop: MixedShop, scope: Scope): Promise<void>
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
  },
  {
    name: 'trace',
    async run(shop) {
      await shop.putProduct('traced', 10)
      await shop.wire.listenTo(['stock', 'payment'])
      for (const paymentMethod of ['pm_card_visa', 'pm_card_chargeDeclined']) {
        const trace = randomBytes(16).toString('hex')
        const traceparent = `00-${trace}-${randomBytes(8).toString('hex')}-01`
        const orderId = await shop.place(
          { items: items('traced', 1), paymentMethod },
          { traceparent }
        )
        await shop.settled(orderId)
        await until('all is on the wire', async () =>
          shop.wire.all(orderId).some(({ type }) => /Order(Completed|Failed)Event/.test(type))
        )
        // .NET writes its own header alone; Sagabox both.
        for (const seen of shop.wire.all(orderId)) {
          const { w3c, massTransit } = tracesOf(seen)
          assert.deepEqual(
            { w3c: w3c ?? trace, massTransit },
            { w3c: trace, massTransit: trace },
            `${seen.type} of the trace ${trace} has ${w3c} in traceparent, ${massTransit} in MT-Activity-Id`
          )
        }
      }
    }
  },
  {
    name: 'late answer',
    async run(shop) {
      await shop.putProduct('late', 10)
      await shop.stop('order')
      await shop.start('order', { ORDER_DEADLINE_SECONDS: '1' })
      await shop.stop('stock')
      const orderId = await shop.place({ items: items('late', 2) })
      await until(
        'the deadline has passed',
        async () => (await shop.order(orderId))?.status === 'Failed'
      )
      await shop.start('stock')
      const { reason } = await shop.settled(orderId)
      assert.equal(reason, 'DeadlineExceeded')
      await shop.stop('order')
      await shop.start('order')
      assert.equal(await shop.reservation(orderId), 'Released')
      assert.equal(await shop.shelf('late'), '10+0')
      assert.ok(
        [undefined, 'Refunded', 'Cancelled', 'Failed'].includes(await shop.payment(orderId)),
        `payment is ${await shop.payment(orderId)}`
      )
    }
  },
  {
    name: 'a consumer throws',
    async run(shop) {
      await shop.putProduct('faulty', 10)
      const orderId = await ends(
        shop,
        { items: items('faulty', 1) },
        { status: 'Completed', reason: null, reservation: 'Reserved', payment: 'Completed' }
      )
      const reserved = await shop.wire.arrived('StockReservedEvent', orderId)
      const message = { ...reserved.envelope.message, total: 1 }
      await oneLetter(shop, 'payment', () =>
        shop.wire.send('Contracts:StockReservedEvent', 'StockReservedEvent', message)
      )
      const other = await shop.wire.arrived('Fault<StockReservedEvent>', orderId)
      assert.match(JSON.stringify(other.envelope.message['exceptions']), /is to be paid 1000 EUR/)

      const noUnits = randomUUID()
      const order = {
        orderId: noUnits,
        customerId: 'ada',
        items: items('faulty', 0),
        paymentMethod: 'pm_card_visa',
        expectedTotal: null
      }
      await oneLetter(shop, 'stock', () =>
        shop.wire.send('Contracts:OrderCreatedEvent', 'OrderCreatedEvent', order)
      )
      // In Sagabox the body breaks the contract, and no consumer was asked.
      if (shop.sides.stock === 'dotnet')
        await shop.wire.arrived('Fault<OrderCreatedEvent>', noUnits)
      assert.equal(await shop.shelf('faulty'), '9+1')
    }
  },
  {
    name: 'broken, unknown',
    async run(shop) {
      for (const name of ['order', 'stock', 'payment'] as const) {
        await oneLetter(shop, name, () => shop.wire.sendText(name, '{"messageId": "'))
        await oneLetter(shop, name, () =>
          shop.wire.send(name, 'NeverHeardOf', { orderId: randomUUID() })
        )
      }
      await shop.putProduct('unharmed', 10)
      await ends(
        shop,
        { items: items('unharmed', 1) },
        { status: 'Completed', reason: null, reservation: 'Reserved', payment: 'Completed' }
      )
    }
  },
  {
    name: 'kill -9',
    async run(shop) {
      await shop.putProduct('killed', 10_000)
      const load = Load.start(shop, 'killed', 20)
      for (const victim of victims(shop)) {
        await load.placed(20)
        await shop.kill(victim)
        await load.tried(10)
        await shop.start(victim)
      }
      await load.placed(20)
      await load.allCompleted()
    }
  },
  {
    name: 'swap',
    async run(shop) {
      const swapped = (['stock', 'payment'] as const).find(
        (service) => shop.sides[service] === 'dotnet'
      )
      if (!swapped)
        throw new Error(
          'a queue that Sagabox has declared needs `sagabox topology hand-over` first'
        )
      await shop.putProduct('swapped', 10_000)
      const load = Load.start(shop, 'swapped', 20)
      await load.placed(20)
      // Both work on the queue for a while.
      await shop.replace(swapped, 'sagabox')
      await load.placed(20)
      // Nobody works on it for a while.
      await shop.stop(swapped)
      await load.placed(20)
      await shop.start(swapped, {}, 'dotnet')
      await load.placed(20)
      await load.allCompleted()
    }
  },
  {
    name: 'release first',
    async run(shop) {
      await shop.putProduct('released', 10)
      const orderId = randomUUID()
      await shop.wire.send('stock', 'ReleaseStock', { orderId })
      await shop.wire.arrived('StockReleasedEvent', orderId)
      await shop.wire.send('Contracts:OrderCreatedEvent', 'OrderCreatedEvent', {
        orderId,
        customerId: 'ada',
        items: items('released', 1),
        paymentMethod: 'pm_card_visa',
        expectedTotal: null
      })
      const { envelope } = await shop.wire.arrived('StockNotReservedEvent', orderId)
      assert.equal(envelope.message['reason'], 'Released')
      assert.equal(await shop.shelf('released'), '10+0')
    }
  },
  {
    name: 'Sagabox first',
    async run({ sides, dotnetEnv }, scope) {
      const names = ['order', 'stock', 'payment'] as const
      const startOrder = names.toSorted((a, b) => sides[b].localeCompare(sides[a]))
      const shop = await MixedShop.open(scope, { sides, dotnetEnv, startOrder })
      await shop.putProduct('first', 10)
      await ends(
        shop,
        { items: items('first', 1) },
        { status: 'Completed', reason: null, reservation: 'Reserved', payment: 'Completed' }
      )
    }
  }
]

/** One of each side; not .NET's order, whose sagas are in its memory. */
function victims({ sides }: MixedShop): ServiceName[] {
  const of = (side: string) =>
    (['stock', 'payment', 'order'] as const).find(
      (name) => sides[name] === side && !(name === 'order' && side === 'dotnet')
    )
  return [of('dotnet'), of('sagabox')].filter((name) => name !== undefined)
}

/** What is sent ends as one dead letter of the service. */
async function oneLetter(
  shop: MixedShop,
  service: ServiceName,
  send: () => Promise<unknown>
): Promise<void> {
  const before = await shop.letters(service)
  await send()
  await until(
    `${service} by ${shop.sides[service]} has a dead letter`,
    async () => (await shop.letters(service)) > before,
    { tell: () => shop.lastWords }
  )
  assert.equal(await shop.letters(service), before + 1)
}
