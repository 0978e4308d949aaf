// What blog posts on "microservice saga + outbox in Node" teach, done with care: TypeORM
// repositories and one transaction a message, an outbox table in each schema polled by setInterval
// every second (100 rows, published one by one with Rascal's confirm awaited, each then marked as
// published), an inbox table checked first, choreography events over durable quorum queues, one
// Rascal subscription an event with prefetch 10 and ackOrNack after the transaction. TypeORM's
// default pool of 10 a service; Rascal's default config, and noDelay, without which a confirm can
// wait for a delayed TCP acknowledgement.
import fastify from 'fastify'
import { v7 as uuid } from 'uuid'
import {
  OrderEntity,
  OrderLineEntity,
  PaymentEntity,
  ProductEntity,
  ReservationEntity,
  ReservationLineEntity
} from './tutorial/entities.ts'
import { connectBroker, connectDatabase, startOutboxPublisher } from './tutorial/messaging.ts'
import {
  createOrder,
  startOrderService,
  startPaymentService,
  startStockService,
  type OrderCreatedEvent
} from './tutorial/services.ts'

const databaseUrl = process.env['DATABASE_URL']!
const orders = await connectDatabase(databaseUrl, 'order_service', [OrderEntity, OrderLineEntity])
const stock = await connectDatabase(databaseUrl, 'stock_service', [
  ProductEntity,
  ReservationEntity,
  ReservationLineEntity
])
const payments = await connectDatabase(databaseUrl, 'payment_service', [PaymentEntity])
const broker = await connectBroker(process.env['RABBITMQ_URL']!)
await startOrderService(orders, broker)
await startStockService(stock, broker)
await startPaymentService(payments, broker)
const publishers = [orders, stock, payments].map((dataSource) =>
  startOutboxPublisher(dataSource, broker)
)

const body = {
  type: 'object',
  required: ['customerId', 'items', 'paymentMethod'],
  properties: {
    customerId: { type: 'string', minLength: 1, maxLength: 64 },
    items: {
      type: 'array',
      minItems: 1,
      maxItems: 100,
      items: {
        type: 'object',
        required: ['productId', 'quantity'],
        properties: {
          productId: { type: 'string' },
          quantity: { type: 'integer', minimum: 1, maximum: 1_000_000 }
        }
      }
    },
    paymentMethod: { enum: ['pm_card_visa', 'pm_card_chargeDeclined'] }
  }
}

const app = fastify()
app.get('/health/ready', () => ({ status: 'ready' }))
app.post<{ Body: Omit<OrderCreatedEvent, 'orderId'> }>(
  '/orders',
  { schema: { body } },
  async (request, reply) => {
    const orderId = uuid()
    await createOrder(orders, { orderId, ...request.body })
    return reply.code(202).send({ orderId })
  }
)
await app.listen({ host: '127.0.0.1', port: Number(process.env['PORT']) })

async function stop(): Promise<void> {
  await app.close()
  await Promise.all(publishers.map((stopPublisher) => stopPublisher()))
  await broker.shutdown()
  await Promise.all([orders, stock, payments].map((dataSource) => dataSource.destroy()))
  process.exit(0)
}
process.once('SIGTERM', () => void stop())
