import { connect } from 'amqplib'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { startPostgres, type PrivatePostgres } from '../fixtures/postgres.ts'
import { startRabbitMQ, type PrivateBroker } from '../fixtures/rabbitmq.ts'
import { Api } from '../support/api.ts'
import { until } from '../support/until.ts'
import type { Fault, Scene } from './fault.ts'
import type { Proxy } from './proxy.ts'
import { Repeater } from './repeater.ts'

const BOTH = ['memory', 'rabbitmq'] as const
const DISTRIBUTED = ['rabbitmq'] as const

/** Servers die, and come back. */
export const deadServers: Fault[] = [
  {
    name: 'broker killed under load',
    transports: DISTRIBUTED,
    async servers(scope) {
      const broker = await startRabbitMQ()
      scope.teardown(() => broker.stop())
      return { broker }
    },
    async inject({ site, shop }) {
      const broker = site.options.broker as PrivateBroker
      // Younger than a second, a quorum queue does not outlive a kill of RabbitMQ 3.10.
      await sleep(2000)
      for (let time = 1; time <= 2; time++) {
        await shop.answered(20 * time)
        await broker.restart()
        for (const name of site.names) await site.ready(name)
      }
      return 2
    }
  },
  {
    name: 'PostgreSQL killed under load',
    transports: BOTH,
    async servers(scope) {
      const database = await startPostgres()
      scope.teardown(() => database.stop())
      return { database }
    },
    async inject({ site, shop }) {
      const database = site.options.database as PrivatePostgres
      for (let time = 1; time <= 3; time++) {
        await shop.answered(20 * time)
        await database.restart()
        for (const name of site.names) await site.ready(name)
      }
      return 3
    }
  }
]

/** What a network does: to the database's line, and to the broker's. */
function onTheNetwork(what: string, times: number, disturb: (proxy: Proxy, scene: Scene) => Promise<void>): Fault[] {
  return (['database', 'broker'] as const).map((to) => ({
    name: `${what} between services and ${to}`,
    transports: to === 'database' ? BOTH : DISTRIBUTED,
    site: { proxied: true },
    async inject(scene) {
      const proxy = to === 'database' ? scene.site.databaseProxy! : scene.site.brokerProxy!
      for (let time = 1; time <= times; time++) {
        await scene.shop.answered(15 * time)
        await disturb(proxy, scene)
        proxy.heal()
      }
      return times
    }
  }))
}

export const networkFaults: Fault[] = [
  ...onTheNetwork('black hole of 15 s', 1, async (proxy) => {
    proxy.stall()
    await sleep(15_000)
  }),
  // What was under way is lost for good, not late.
  ...onTheNetwork('black hole of 15 s, then cut', 1, async (proxy) => {
    proxy.stall()
    await sleep(15_000)
    proxy.cut()
  }),
  ...onTheNetwork('connections reset', 10, async (proxy, { random }) => {
    proxy.cut()
    await sleep(100 + 500 * random())
  }),
  ...onTheNetwork('answers lost for 3 s', 2, async (proxy) => {
    proxy.loseAnswers()
    await sleep(3000)
  }),
  ...onTheNetwork('100 to 500 ms a packet for 5 s', 1, async (proxy, { random }) => {
    proxy.slow(() => 100 + 400 * random())
    await sleep(5000)
  }),
  {
    name: 'answers to COMMIT lost',
    transports: BOTH,
    site: { proxied: true },
    async inject({ site, shop }) {
      await shop.answered(15)
      site.databaseProxy!.loseAnswersTo('COMMIT', 12)
      await until('the answers are lost', async () => site.databaseProxy!.answersToLose === 0)
      site.databaseProxy!.heal()
      return 12
    }
  }
]

export const processFaults: Fault[] = [
  {
    name: 'two copies of each, killed at random',
    transports: DISTRIBUTED,
    site: { copies: 2 },
    async inject({ site, shop, random }) {
      for (let time = 1; time <= 8; time++) {
        await shop.answered(12 * time)
        await site.restart(site.names[Math.floor(random() * site.names.length)]!)
      }
      return 8
    }
  },
  {
    name: 'suspended for 3 to 8 s',
    transports: DISTRIBUTED,
    site: { copies: 2 },
    async inject({ site, shop, random }) {
      for (const [index, name] of site.names.entries()) {
        await shop.answered(10 * (index + 1))
        const program = await site.program(name)
        program.send('SIGSTOP')
        await sleep(3000 + 5000 * random())
        program.send('SIGCONT')
      }
      return site.names.length
    }
  },
  {
    name: 'asked to stop again and again',
    transports: BOTH,
    async inject({ site, shop, random }) {
      for (let time = 1; time <= 9; time++) {
        await shop.answered(12 * time)
        await site.restart(site.names[Math.floor(random() * site.names.length)]!, 'SIGTERM')
      }
      return 9
    }
  }
]

export const messageFaults: Fault[] = [
  {
    name: 'every message three times, to two copies',
    transports: DISTRIBUTED,
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
    transports: BOTH,
    site: { parts: ['all'], env: { TWICE: '1' } },
    inject: ({ shop }) => shop.answered(60).then(() => 60)
  },
  // Of a message that two queues take, one queue is enough for the broker: only stock takes OrderCreatedEvent alone.
  {
    name: 'a queue that gets nothing for 1 s',
    transports: DISTRIBUTED,
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
    transports: DISTRIBUTED,
    site: { parts: ['all'], copies: 2 },
    async inject({ site, shop }) {
      // The other copy leads the outbox.
      await site.end('all 2', 'SIGKILL')
      await untilLed(site.databaseUrl)
      site.run('all 2', ['order-commit:1:STOP'])
      const program = await site.program('all 2')
      await until('an order is stopped before its commit', async () => /^\S+ \(.*\) T/.test(await readFile(`/proc/${program.pid}/stat`, 'utf8')))
      const others = new Api((await site.program('all')).url)
      for (let index = 1; index <= 5; index++) shop.accepted.add(await others.placeOrder({ customerId: `other-${index}` }))
      program.send('SIGCONT')
      return 1
    }
  },
  {
    name: 'events that come after the deadline',
    transports: BOTH,
    site: { parts: ['all'], env: { ORDER_DEADLINE_SECONDS: '1', LATE: 'order:2500:StockReservedEvent,PaymentCompletedEvent' } },
    shop: { methods: ['pm_card_visa'] },
    orders: 30,
    inject: ({ shop }) => shop.answered(30).then(() => 30)
  },
  {
    name: 'a release that overtakes its order',
    transports: BOTH,
    site: { parts: ['all'], env: { ORDER_DEADLINE_SECONDS: '1', LATE: 'stock:2500:OrderCreatedEvent' } },
    shop: { methods: ['pm_card_visa'] },
    orders: 30,
    inject: ({ shop }) => shop.answered(30).then(() => 30),
    rules: {
      'what was released first is never reserved': 'select order_id from stock_service.reservation_lines',
      'and never charged': 'select order_id from payment_service.payments'
    }
  },
  {
    name: 'few products, many buyers, two copies',
    transports: DISTRIBUTED,
    site: { parts: ['all'], copies: 2 },
    shop: { putIn: 150, customers: 40, methods: ['pm_card_visa'] },
    orders: 300,
    inject: ({ shop }) => shop.answered(300).then(() => 1)
  }
]

/** Waits until somebody leads the outbox of the order service. */
async function untilLed(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await until('the outbox is led', async () => {
      const { rowCount } = await client.query(`
        select from pg_locks join pg_stat_activity using (pid)
        where locktype = 'advisory' and granted and application_name = 'sagabox relay order_service' and datname = current_database()`)
      return rowCount === 1
    })
  } finally {
    await client.end()
  }
}
