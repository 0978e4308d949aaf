import { connect } from 'amqplib'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { Api } from '../support/api.ts'
import { until } from '../support/until.ts'
import type { Fault } from './fault.ts'
import { whileLocked } from './lock.ts'
import { Repeater } from './repeater.ts'

export const messageFaults: Fault[] = [
  {
    name: 'every message three times, to two copies',
    transports: ['rabbitmq'],
    site: { parts: ['all'], copies: 2 },
    async inject({ site, shop, scope }) {
      const repeater = await Repeater.start(scope, site.brokerUrl!)
      await shop.answered(60)
      await repeater.stop()
      return repeater.sent
    }
  },
  {
    name: 'every message twice in one batch',
    transports: ['memory', 'rabbitmq'],
    site: { parts: ['all'], env: { TWICE: '1' } },
    inject: ({ shop }) => shop.answered(60).then(() => 60)
  },
  // Of a message that two queues take, one queue is enough for the broker: only stock takes
  // OrderCreatedEvent alone.
  {
    name: 'a queue that gets nothing for 1 s',
    transports: ['rabbitmq'],
    site: { parts: ['all'] },
    async inject({ site, shop }) {
      const connection = await connect(site.brokerUrl!)
      const channel = await connection.createChannel()
      for (let time = 1; time <= 3; time++) {
        await shop.answered(15 * time)
        await channel.unbindQueue('stock', 'stock', '')
        await sleep(1000)
        await channel.bindQueue('stock', 'stock', '')
      }
      await connection.close()
      return 3
    }
  },
  {
    name: 'a smaller id that commits later',
    transports: ['rabbitmq'],
    site: { parts: ['all'], copies: 2 },
    async inject({ site, shop }) {
      // The other copy leads the outbox.
      await site.end('all 2', 'SIGKILL')
      await untilFound('the outbox is led', site.databaseUrl, LEADS)
      site.run('all 2', ['order-commit:1:STOP'])
      const program = await site.program('all 2')
      await untilFound('an order is stopped before its commit', site.databaseUrl, STANDS_STILL)
      const others = new Api((await site.program('all')).url)
      for (let index = 1; index <= 5; index++)
        shop.accepted.add(await others.placeOrder({ customerId: `other-${index}` }))
      // Meanwhile the leader reads on from there.
      await sleep(2500)
      program.send('SIGCONT')
      return 1
    }
  },
  {
    name: 'events that come after the deadline',
    transports: ['memory', 'rabbitmq'],
    site: {
      parts: ['all'],
      env: {
        ORDER_DEADLINE_SECONDS: '1',
        LATE: 'order:StockReleasedEvent:StockReservedEvent,PaymentCompletedEvent'
      }
    },
    shop: { methods: ['pm_card_visa'] },
    orders: 30,
    inject: ({ shop }) => shop.answered(30).then(() => 30)
  },
  {
    name: 'a release that overtakes its order',
    transports: ['memory', 'rabbitmq'],
    site: {
      parts: ['all'],
      env: { ORDER_DEADLINE_SECONDS: '1', LATE: 'stock:ReleaseStock:OrderCreatedEvent' }
    },
    shop: { methods: ['pm_card_visa'] },
    orders: 30,
    inject: ({ shop }) => shop.answered(30).then(() => 30),
    rules: {
      'what was released first is never reserved':
        'select order_id from stock_service.reservation_lines',
      'and never charged': 'select order_id from payment_service.payments'
    }
  },
  {
    name: 'few products, many buyers, two copies',
    transports: ['rabbitmq'],
    site: { parts: ['all'], copies: 2 },
    shop: {
      products: Array.from({ length: 60 }, (_, index) => `product-${index}`),
      lines: 60,
      putIn: 150,
      customers: 20,
      methods: ['pm_card_visa']
    },
    orders: 150,
    async inject({ site, shop, random }) {
      // Whoever has locked the products before this one keeps them locked for a moment. Two that
      // come from opposite sides wait for each other then, and each time the two copies may happen
      // to come from the same.
      for (let time = 1; time <= 12; time++) {
        await shop.answered(12 * time)
        await whileLocked(
          site.databaseUrl,
          `
            select from stock_service.products
              where product_id = 'product-${Math.floor(60 * random())}' for update`,
          () => sleep(200)
        )
      }
      return 12
    }
  }
]

/** Somebody leads the outbox of the order service. */
const LEADS = `
  select from pg_locks join pg_stat_activity using (pid)
  where locktype = 'advisory' and granted and application_name = 'sagabox relay order_service'
    and datname = current_database()`

/** A transaction of the order service has begun and goes no further. */
const STANDS_STILL = `
  select from pg_stat_activity
  where application_name = 'sagabox order_service' and datname = current_database()
    and state = 'idle in transaction' and state_change < now() - interval '0.3 seconds'`

async function untilFound(what: string, databaseUrl: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await until(what, async () => (await client.query(sql)).rowCount === 1)
  } finally {
    await client.end()
  }
}
