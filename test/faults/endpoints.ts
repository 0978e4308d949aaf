import { connect } from 'amqplib'
import pg from 'pg'
import { until } from '../support/until.ts'
import type { Fault } from './fault.ts'

/** Queues that are not there yet, or are there already. */
export const endpointFaults: Fault[] = [
  {
    name: 'an endpoint that has never been there until now',
    transports: ['rabbitmq'],
    apart: true,
    // StockReservedEvent goes to order and payment: the broker does not tell that one is missing.
    async start(site) {
      for (const name of ['order', 'stock']) site.run(name)
      for (const name of ['order', 'stock']) await site.ready(name)
    },
    async inject({ site, shop }) {
      await shop.answered(40)
      await untilReserved(site.databaseUrl, 20)
      site.run('payment')
      await site.ready('payment')
      return 1
    }
  },
  {
    name: 'queues that somebody else has declared',
    transports: ['rabbitmq'],
    apart: true,
    async start(site) {
      await declare(site.brokerUrl!)
      await site.start()
    },
    inject: ({ shop }) => shop.answered(60).then(() => Object.keys(FOREIGN).length)
  }
]

/** Arguments that are not ours, by queue. */
const FOREIGN: Record<string, object> = {
  order: {},
  stock: { 'x-queue-type': 'quorum' },
  stock_error: {},
  payment: { 'x-queue-mode': 'lazy', 'x-max-priority': 10 }
}

async function declare(brokerUrl: string): Promise<void> {
  const connection = await connect(brokerUrl)
  const channel = await connection.createChannel()
  for (const [name, args] of Object.entries(FOREIGN)) {
    await channel.assertExchange(name, 'fanout', { durable: true })
    await channel.assertQueue(name, { durable: true, arguments: args })
    await channel.bindQueue(name, name, '')
  }
  await connection.close()
}

const RESERVATIONS = 'select from stock_service.reservations'

async function untilReserved(databaseUrl: string, count: number): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const reserved = async () => (await client.query(RESERVATIONS)).rowCount!
  try {
    await until(`${count} orders are reserved`, async () => (await reserved()) >= count)
  } finally {
    await client.end()
  }
}
