// DBOS Transact 5.3: an order is one durable workflow, its id the workflow id
// (docs.dbos.dev/typescript). What was chosen:
// - DBOSClient.enqueueInTransaction (documented in the SDK's client.d.ts): the order's rows and its workflow commit together, then the client is answered
// - a queue polled every 50 ms (minPollingIntervalMs, by default 1000) that runs 100 workflows at once (workerConcurrency)
// - datasource transactions, their checkpoint committed with the rows: reserve (with the pending payment), complete, fail;
// the services share a database, so each is one transaction. The gateway is a step that may be
// retried (retriesAllowed)
// - system tables in the shop's own database, which enqueueInTransaction asks for; systemDatabasePoolSize 20; recovery at launch
// - prepared statements for the shop's tables
import { DBOS, DBOSClient } from '@dbos-inc/dbos-sdk'
import fastify from 'fastify'
import pg from 'pg'
import { v7 as uuid } from 'uuid'
import { inTransaction, NodePostgresDataSource } from './dbos/datasource.ts'
import { completeOrder, failOrder, insertOrder, reserveStock, type Order } from './dbos/sql.ts'

const databaseUrl = process.env['DATABASE_URL']!
const applicationName = 'shop'

const shop = new NodePostgresDataSource('shop', { connectionString: databaseUrl, max: 20 })

async function processOrder(order: Order): Promise<void> {
  const { orderId, paymentMethod } = order
  const reservation = await shop.runTransaction(() => reserveStock(shop.client, order), {
    name: 'reserve'
  })
  if (!reservation.reserved) return
  const { total, currency } = reservation
  const charge = await DBOS.runStep(() => askGateway(orderId, paymentMethod), {
    name: 'charge',
    retriesAllowed: true,
    maxAttempts: 10
  })
  if (charge.charged)
    await shop.runTransaction(
      () => completeOrder(shop.client, orderId, total, currency, charge.reference),
      { name: 'complete' }
    )
  else
    await shop.runTransaction(() => failOrder(shop.client, orderId, charge.reason), {
      name: 'fail'
    })
}
DBOS.registerWorkflow(processOrder, { name: 'processOrder' })

async function askGateway(
  orderId: string,
  method: string
): Promise<{ charged: true; reference: string } | { charged: false; reason: string }> {
  return method === 'pm_card_chargeDeclined'
    ? { charged: false, reason: 'CardDeclined' }
    : { charged: true, reference: `sim_${orderId}` }
}

DBOS.setConfig({
  name: applicationName,
  systemDatabaseUrl: databaseUrl,
  systemDatabasePoolSize: 20,
  logLevel: 'warn'
})
await DBOS.launch()
await DBOS.registerQueue('orders', { workerConcurrency: 100, minPollingIntervalMs: 50 })
const pool = new pg.Pool({ connectionString: databaseUrl, max: 10 })
const client = await DBOSClient.create({
  systemDatabaseUrl: databaseUrl,
  systemDatabasePool: pool,
  applicationName
})

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
app.post<{ Body: Omit<Order, 'orderId'> }>(
  '/orders',
  { schema: { body } },
  async (request, reply) => {
    const order = { orderId: uuid(), ...request.body }
    await inTransaction(pool, async (transaction) => {
      await insertOrder(transaction, order)
      await client.enqueueInTransaction<typeof processOrder>(
        transaction,
        { queueName: 'orders', workflowName: 'processOrder', workflowID: order.orderId },
        order
      )
    })
    return reply.code(202).send({ orderId: order.orderId })
  }
)
await app.listen({ host: '127.0.0.1', port: Number(process.env['PORT']) })

async function stop(): Promise<void> {
  await app.close()
  await DBOS.shutdown({ workflowCompletionTimeoutMS: 5000 })
  await client.destroy()
  await pool.end()
  process.exit(0)
}
process.once('SIGTERM', () => void stop())
