import Fastify from 'fastify'
import { v7 as uuidv7 } from 'uuid'
import type { Item } from './steps.ts'

export interface Order {
  orderId: string
  customerId: string
  items: Item[]
  paymentMethod: string
}

const BODY = {
  type: 'object',
  required: ['customerId', 'items', 'paymentMethod'],
  properties: {
    customerId: { type: 'string', minLength: 1, maxLength: 200 },
    paymentMethod: { type: 'string', minLength: 1, maxLength: 200 },
    items: {
      type: 'array',
      minItems: 1,
      maxItems: 100,
      items: {
        type: 'object',
        required: ['productId', 'quantity'],
        properties: {
          productId: { type: 'string', minLength: 1, maxLength: 100 },
          quantity: { type: 'integer', minimum: 1, maximum: 1_000_000 }
        }
      }
    }
  }
}

const ACCEPTED = { 202: { type: 'object', properties: { orderId: { type: 'string' } } } }

/** Takes orders on PORT until SIGTERM; then `stop` ends the rest. */
export async function serve(
  place: (order: Order) => Promise<void>,
  stop: () => Promise<void>
): Promise<void> {
  const app = Fastify()
  app.get('/health/ready', async () => ({ status: 'ready' }))
  app.post<{ Body: Omit<Order, 'orderId'> }>(
    '/orders',
    { schema: { body: BODY, response: ACCEPTED } },
    async (request, reply) => {
      const orderId = uuidv7()
      await place({ orderId, ...request.body })
      return reply.code(202).send({ orderId })
    }
  )
  await app.listen({ host: '127.0.0.1', port: Number(process.env['PORT']) })
  process.once('SIGTERM', () => {
    void app
      .close()
      .then(stop)
      .then(
        () => process.exit(0),
        (error: unknown) => {
          console.error(error)
          process.exit(1)
        }
      )
  })
}

/** The columns of PLACE. */
export function placed({ orderId, customerId, items, paymentMethod }: Order): unknown[] {
  return [
    orderId,
    customerId,
    paymentMethod,
    items.map(({ productId }) => productId),
    items.map(({ quantity }) => quantity)
  ]
}
