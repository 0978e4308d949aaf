import type { BrokerAsPromised } from 'rascal'
import { In, type DataSource, type EntityManager } from 'typeorm'
import {
  OrderEntity,
  OrderLineEntity,
  PaymentEntity,
  ProductEntity,
  ReservationEntity,
  ReservationLineEntity
} from './entities.ts'
import { addToOutbox, once, subscribe } from './messaging.ts'

export interface OrderCreatedEvent {
  orderId: string
  customerId: string
  items: { productId: string; quantity: number }[]
  paymentMethod: string
}

type StockReservedEvent = OrderCreatedEvent & { total: number; currency: string }
type PaymentCompletedEvent = { orderId: string; amount: number; currency: string }
type Failure = { orderId: string; reason: string }

export async function createOrder(dataSource: DataSource, order: OrderCreatedEvent): Promise<void> {
  const { orderId, customerId, items, paymentMethod } = order
  await dataSource.transaction(async (manager) => {
    await manager.insert(OrderEntity, { orderId, customerId, status: 'Suspend', paymentMethod })
    await manager.insert(
      OrderLineEntity,
      items.map((item, index) => ({
        orderId,
        line: index + 1,
        productId: item.productId,
        quantity: item.quantity
      }))
    )
    await addToOutbox(manager, 'OrderCreatedEvent', order)
  })
}

export async function startOrderService(
  dataSource: DataSource,
  broker: BrokerAsPromised
): Promise<void> {
  const suspended = (orderId: string) => ({ orderId, status: 'Suspend' }) as const
  await subscribe(
    broker,
    'order.StockNotReservedEvent',
    ({ orderId, reason }: Failure, messageId) =>
      once(dataSource, messageId, async (manager) => {
        await manager.update(OrderEntity, suspended(orderId), {
          status: 'Failed',
          failureReason: reason
        })
      })
  )
  await subscribe(
    broker,
    'order.PaymentCompletedEvent',
    ({ orderId, amount, currency }: PaymentCompletedEvent, messageId) =>
      once(dataSource, messageId, async (manager) => {
        await manager.update(OrderEntity, suspended(orderId), {
          status: 'Completed',
          total: amount,
          currency
        })
      })
  )
  await subscribe(broker, 'order.PaymentFailedEvent', ({ orderId, reason }: Failure, messageId) =>
    once(dataSource, messageId, async (manager) => {
      await manager.update(OrderEntity, suspended(orderId), { failureReason: reason })
      await addToOutbox(manager, 'ReleaseStock', { orderId })
    })
  )
  await subscribe(
    broker,
    'order.StockReleasedEvent',
    ({ orderId }: { orderId: string }, messageId) =>
      once(dataSource, messageId, async (manager) => {
        await manager.update(OrderEntity, suspended(orderId), { status: 'Failed' })
      })
  )
}

export async function startStockService(
  dataSource: DataSource,
  broker: BrokerAsPromised
): Promise<void> {
  await subscribe(broker, 'stock.OrderCreatedEvent', (order: OrderCreatedEvent, messageId) =>
    once(dataSource, messageId, (manager) => reserve(manager, order))
  )
  await subscribe(broker, 'stock.ReleaseStock', ({ orderId }: { orderId: string }, messageId) =>
    once(dataSource, messageId, (manager) => release(manager, orderId))
  )
}

async function reserve(manager: EntityManager, order: OrderCreatedEvent): Promise<void> {
  const { orderId } = order
  const demand = new Map<string, number>()
  for (const { productId, quantity } of order.items)
    demand.set(productId, (demand.get(productId) ?? 0) + quantity)
  const products = await manager.find(ProductEntity, {
    where: { productId: In([...demand.keys()]) },
    order: { productId: 'ASC' },
    lock: { mode: 'pessimistic_write' }
  })
  const refuse = async (reason: string) => {
    await manager.insert(ReservationEntity, { orderId, status: 'Refused', reason })
    await addToOutbox(manager, 'StockNotReservedEvent', { orderId, reason })
  }
  if (products.length < demand.size) return refuse('UnknownProduct')
  if (products.some(({ productId, onHand }) => onHand < demand.get(productId)!))
    return refuse('OutOfStock')
  const currency = products[0]!.currency
  if (products.some((product) => product.currency !== currency)) return refuse('MixedCurrencies')

  const lines = products.map(({ productId, unitPrice }) => ({
    orderId,
    productId,
    unitPrice,
    quantity: demand.get(productId)!
  }))
  const total = lines.reduce((sum, { unitPrice, quantity }) => sum + unitPrice * quantity, 0)
  for (const { productId, quantity } of lines) await moveStock(manager, productId, -quantity)
  await manager.insert(ReservationEntity, { orderId, status: 'Reserved', total, currency })
  await manager.insert(ReservationLineEntity, lines)
  await addToOutbox(manager, 'StockReservedEvent', { ...order, total, currency })
}

async function release(manager: EntityManager, orderId: string): Promise<void> {
  const { affected } = await manager.update(
    ReservationEntity,
    { orderId, status: 'Reserved' },
    { status: 'Released' }
  )
  if (affected) {
    const lines = await manager.find(ReservationLineEntity, {
      where: { orderId },
      order: { productId: 'ASC' }
    })
    for (const { productId, quantity } of lines) await moveStock(manager, productId, quantity)
  }
  await addToOutbox(manager, 'StockReleasedEvent', { orderId })
}

async function moveStock(
  manager: EntityManager,
  productId: string,
  quantity: number
): Promise<void> {
  const { affected } = await manager
    .createQueryBuilder()
    .update(ProductEntity)
    .set({ onHand: () => 'on_hand + :quantity', reserved: () => 'reserved - :quantity' })
    .where('product_id = :productId and on_hand + :quantity >= 0', { productId, quantity })
    .execute()
  if (affected !== 1) throw new Error(`Not enough of ${productId}`)
}

export async function startPaymentService(
  dataSource: DataSource,
  broker: BrokerAsPromised
): Promise<void> {
  await subscribe(
    broker,
    'payment.StockReservedEvent',
    async ({ orderId, total, currency, paymentMethod }: StockReservedEvent, messageId) => {
      await dataSource
        .createQueryBuilder()
        .insert()
        .into(PaymentEntity)
        .values({ orderId, status: 'Pending', amount: total, currency, paymentMethod })
        .orIgnore()
        .execute()
      const { reference, declined } = await charge(orderId, paymentMethod)
      await once(dataSource, messageId, async (manager) => {
        const pending = { orderId, status: 'Pending' } as const
        if (declined === undefined) {
          await manager.update(PaymentEntity, pending, {
            status: 'Completed',
            gatewayReference: reference
          })
          await addToOutbox(manager, 'PaymentCompletedEvent', { orderId, amount: total, currency })
        } else {
          await manager.update(PaymentEntity, pending, {
            status: 'Failed',
            failureReason: declined
          })
          await addToOutbox(manager, 'PaymentFailedEvent', { orderId, reason: declined })
        }
      })
    }
  )
}

/** The simulated gateway; the order id is its idempotency key. */
async function charge(
  orderId: string,
  paymentMethod: string
): Promise<{ reference?: string; declined?: string }> {
  return paymentMethod === 'pm_card_chargeDeclined'
    ? { declined: 'CardDeclined' }
    : { reference: `sim_${orderId}` }
}
