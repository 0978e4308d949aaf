// POST /orders with nothing behind it: validates the body, and inserts what arrived meanwhile with
// one statement. No saga, no message, no stock, no payment. The orders are born Completed, so that
// the load does not wait for their end.
import Fastify from 'fastify'
import pg from 'pg'
import { v7 as uuidv7 } from 'uuid'
import { NEW_ORDER, type NewOrder } from '../floor/order.ts'
import { batches } from '../floor/service.ts'

interface Waiting {
  orderId: string
  order: NewOrder
  resolve(): void
}

const INSERT = `
  with placed as (
    insert into orders (order_id, customer_id, payment_method, status) select *, 'Completed'
      from unnest($1::uuid[], $2::text[], $3::text[])
  )
  insert into order_lines (order_id, line, product_id, quantity) select *
    from unnest($4::uuid[], $5::integer[], $6::text[], $7::integer[])`

const { DATABASE_URL = '', PORT = '0' } = process.env
const pool = new pg.Pool({
  connectionString: DATABASE_URL,
  options: '-c search_path=order_service'
})

const place = batches(async (batch: Waiting[]) => {
  const lines = batch.flatMap(({ orderId, order }) =>
    order.items.map((line, index) => ({ orderId, line: index + 1, ...line }))
  )
  await pool.query({
    name: 'place',
    text: INSERT,
    values: [
      batch.map(({ orderId }) => orderId),
      batch.map(({ order }) => order.customerId),
      batch.map(({ order }) => order.paymentMethod),
      lines.map(({ orderId }) => orderId),
      lines.map(({ line }) => line),
      lines.map(({ productId }) => productId),
      lines.map(({ quantity }) => quantity)
    ]
  })
  for (const { resolve } of batch) resolve()
})

const app = Fastify()
app.get('/health/ready', () => ({ status: 'ok' }))
app.post<{ Body: NewOrder }>('/orders', { schema: { body: NEW_ORDER } }, async (request, reply) => {
  const orderId = uuidv7()
  await new Promise<void>((resolve) => place({ orderId, order: request.body, resolve }))
  return reply.code(202).send({ orderId, status: 'Suspend' })
})
await app.listen({ host: '127.0.0.1', port: Number(PORT) })
process.once('SIGTERM', () => process.exit(0))
