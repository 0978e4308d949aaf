// pg-boss 12: a queue a step. By its docs: batchSize (a batch is worked on by set-based SQL),
// `transactional` workers (the step's work, the next jobs and the batch's completion in one
// transaction), send/insert/complete with the `db` option, `notify` with useListenNotify instead of
// waiting for the next poll, burstWhenBatchFull to go on at once. Payment is not transactional, as
// the gateway is asked outside: it settles its batch with complete({ db }). heartbeatSeconds at its
// least (10) and supervision each 20 s instead of 60 give a killed process's jobs back within half
// a minute.
import pg from 'pg'
import { PgBoss, type Db, type Job } from 'pg-boss'
import { placed, serve, type Order } from './queue/server.ts'
import {
  charge,
  decide,
  finish,
  finishJob,
  PLACE,
  RESERVE,
  reservation,
  SETTLE,
  type FinishJob,
  type PaymentJob,
  type Query,
  type StockJob
} from './queue/steps.ts'

const connectionString = process.env['DATABASE_URL']!

const PLACE_ORDER = { name: 'place', text: `${PLACE} select from made` }
const DECIDED = {
  name: 'decided',
  text: 'select order_id from stock_service.reservations where order_id = any($1::uuid[])'
}
const RESERVE_ORDERS = { name: 'reserve', text: `${RESERVE} select order_id from made` }
const SETTLE_PAYMENTS = { name: 'settle', text: `${SETTLE} select order_id from settled` }

const pool = new pg.Pool({ connectionString, max: 12 })
pool.on('error', console.error)
const boss = new PgBoss({
  connectionString,
  max: 10,
  useListenNotify: true,
  schedule: false,
  superviseIntervalSeconds: 20,
  monitorIntervalSeconds: 20
})
boss.on('error', console.error)
await boss.start()

// Commits that notify pass one by one. With PGBOSS_NOTIFY=later only the steps behind a batch
// notify, and the first polls each 0.5 s.
const NOTIFY =
  process.env['PGBOSS_NOTIFY'] === 'later' ? ['payment', 'finish'] : ['stock', 'payment', 'finish']
const QUEUE = { heartbeatSeconds: 10, retryLimit: 20, retryBackoff: true, retryDelayMax: 30 }
for (const name of ['stock', 'payment', 'finish'])
  await boss.createQueue(name, { ...QUEUE, notify: NOTIFY.includes(name) })

const WORK = {
  batchSize: 100,
  burstWhenBatchFull: true,
  pollingIntervalSeconds: 0.5,
  notifyPollingIntervalSeconds: 2
}
await boss.work('stock', { ...WORK, transactional: true }, (jobs: Job<StockJob>[], tx) =>
  reserve(bodies(jobs), tx)
)
await boss.work('payment', WORK, pay)
await boss.work('finish', { ...WORK, transactional: true }, (jobs: Job<FinishJob>[], tx) =>
  finish(on(tx), bodies(jobs))
)

await serve(place, async () => {
  await boss.stop()
  await pool.end()
})

async function place(order: Order): Promise<void> {
  const { orderId, items, paymentMethod } = order
  const job: StockJob = { orderId, items, paymentMethod }
  await inTransaction(async (client) => {
    await client.query({ ...PLACE_ORDER, values: placed(order) })
    await boss.send('stock', job, { db: adapter(client) })
  })
}

async function reserve(jobs: StockJob[], tx: Db): Promise<void> {
  const query = on(tx)
  const { rows } = await query(DECIDED, [jobs.map(({ orderId }) => orderId)])
  const before = new Set(rows.map((row) => row['order_id']))
  const decisions = await decide(
    query,
    jobs.filter(({ orderId }) => !before.has(orderId))
  )
  const made = await query(RESERVE_ORDERS, reservation(decisions))
  if (made.rows.length !== decisions.length)
    throw new Error('A reservation was made by another transaction')
  const payments = decisions.flatMap(({ orderId, paymentMethod, ...decision }): PaymentJob[] =>
    decision.status === 'Reserved'
      ? [{ orderId, total: decision.total, currency: decision.currency, paymentMethod }]
      : []
  )
  const refused = decisions.flatMap(({ orderId, ...decision }): FinishJob[] =>
    decision.status === 'Refused' ? [{ orderId, outcome: 'Refused', reason: decision.reason }] : []
  )
  await insert('payment', payments, tx)
  await insert('finish', refused, tx)
}

async function pay(jobs: Job<PaymentJob>[]): Promise<void> {
  const { charged, values } = await charge(
    (statement, parameters) => pool.query({ ...statement, values: parameters }),
    bodies(jobs)
  )
  await inTransaction(async (client) => {
    const { rows } = await client.query<{ order_id: string }>({ ...SETTLE_PAYMENTS, values })
    const settled = new Set(rows.map((row) => row.order_id))
    await insert(
      'finish',
      charged.filter(({ orderId }) => settled.has(orderId)).map(finishJob),
      adapter(client)
    )
    await boss.complete('payment', jobs, null, { db: adapter(client) })
  })
}

async function insert(queue: string, jobs: (PaymentJob | FinishJob)[], db: Db): Promise<void> {
  if (jobs.length > 0)
    await boss.insert(
      queue,
      jobs.map((data) => ({ data })),
      { db }
    )
}

function bodies<T>(jobs: Job<T>[]): T[] {
  return jobs.map(({ data }) => data)
}

function on(tx: Db): Query {
  return ({ text }, values) => tx.executeSql(text, values)
}

function adapter(client: pg.ClientBase): Db {
  return { executeSql: (text, values) => client.query(text, values) }
}

async function inTransaction(work: (client: pg.ClientBase) => Promise<void>): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    await work(client)
    await client.query('commit')
    client.release()
  } catch (error) {
    client.release(true)
    throw error
  }
}
