// Graphile Worker 0.18: a task a step. By its docs: graphile_worker.add_job in SQL, within the
// statement or transaction that does the step's work; job batching (localQueue,
// completeJobBatchDelay), which pays at high throughput; concurrentJobs above the default of 1, the
// pool larger than that. Tasks may run again (a job is deleted after its task, apart), so each is
// idempotent by order id. No named queues: they run serially. A killed worker's jobs stay locked
// for 4 hours unless forceUnlockWorkers frees them: this process is alone, so it does that at its
// start.
import { makeWorkerUtils, run, type JobHelpers, Logger, type TaskList } from 'graphile-worker'
import pg from 'pg'
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

const CONCURRENT_JOBS = 16
const connectionString = process.env['DATABASE_URL']!

const PLACE_AND_ENQUEUE = {
  name: 'place',
  text: `${PLACE} select graphile_worker.add_job('stock', $6::json) from made`
}
const RESERVE_AND_ENQUEUE = {
  name: 'reserve',
  text: `${RESERVE} select graphile_worker.add_job($11, $12::json) from made`
}
const SETTLE_AND_ENQUEUE = {
  name: 'settle',
  text: `${SETTLE} select graphile_worker.add_job('finish', $5::json) from settled`
}

const on =
  (client: pg.ClientBase | pg.Pool): Query =>
  (statement, values) =>
    client.query({ ...statement, values })

/** One statement each is a transaction of its own. */
function directly<T>({ withPgClient }: JobHelpers, work: (query: Query) => Promise<T>): Promise<T> {
  return withPgClient((client) => work(on(client)))
}

function inTransaction<T>(
  { withPgClient }: JobHelpers,
  work: (query: Query) => Promise<T>
): Promise<T> {
  return withPgClient(async (client) => {
    await client.query('begin')
    try {
      const result = await work(on(client))
      await client.query('commit')
      return result
    } catch (error) {
      await client.query('rollback')
      throw error
    }
  })
}

const tasks: TaskList = {
  async stock(payload, helpers) {
    await inTransaction(helpers, async (query) => {
      const [decision] = await decide(query, [payload as StockJob])
      const { orderId, paymentMethod } = decision!
      const next: [string, PaymentJob | FinishJob] =
        decision!.status === 'Reserved'
          ? [
              'payment',
              { orderId, total: decision!.total, currency: decision!.currency, paymentMethod }
            ]
          : ['finish', { orderId, outcome: 'Refused', reason: decision!.reason }]
      await query(RESERVE_AND_ENQUEUE, [
        ...reservation([decision!]),
        next[0],
        JSON.stringify(next[1])
      ])
    })
  },
  async payment(payload, helpers) {
    // Two statements that commit one by one, with the gateway in between.
    const {
      charged: [charged],
      values
    } = await charge(
      (statement, parameters) => directly(helpers, (query) => query(statement, parameters)),
      [payload as PaymentJob]
    )
    if (charged)
      await directly(helpers, (query) =>
        query(SETTLE_AND_ENQUEUE, [...values, JSON.stringify(finishJob(charged))])
      )
  },
  async finish(payload, helpers) {
    const job = payload as FinishJob
    await (job.outcome === 'Declined' ? inTransaction : directly)(helpers, (query) =>
      finish(query, [job])
    )
  }
}

await unlockJobs()

const runner = await run({
  taskList: tasks,
  noHandleSignals: true,
  preset: {
    worker: {
      connectionString,
      concurrentJobs: CONCURRENT_JOBS,
      maxPoolSize: CONCURRENT_JOBS + 4,
      localQueue: { size: 200 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      logger: new Logger(() => (level, message) => {
        if (level === 'error' || level === 'warning') console.error(message)
      })
    }
  }
})

const pool = new pg.Pool({ connectionString, max: 10 })
pool.on('error', console.error)

await serve(place, async () => {
  await runner.stop()
  await pool.end()
})

async function place(order: Order): Promise<void> {
  const { orderId, items, paymentMethod } = order
  const job: StockJob = { orderId, items, paymentMethod }
  await on(pool)(PLACE_AND_ENQUEUE, [...placed(order), JSON.stringify(job)])
}

async function unlockJobs(): Promise<void> {
  const utils = await makeWorkerUtils({ connectionString })
  try {
    await utils.migrate()
    const { rows } = await utils.withPgClient((client) =>
      client.query<{ locked_by: string }>(
        'select distinct locked_by from graphile_worker.jobs where locked_by is not null'
      )
    )
    if (rows.length > 0) await utils.forceUnlockWorkers(rows.map(({ locked_by }) => locked_by))
  } finally {
    await utils.release()
  }
}
