import { connect } from 'amqplib'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { Fault } from './fault.ts'
import { whileLocked } from './lock.ts'

export const processFaults: Fault[] = [
  {
    name: 'two copies of each, killed at random',
    transports: ['rabbitmq'],
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
    transports: ['rabbitmq'],
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
    transports: ['memory', 'rabbitmq'],
    async inject({ site, shop, random }) {
      for (let time = 1; time <= 9; time++) {
        await shop.answered(12 * time)
        await site.restart(site.names[Math.floor(random() * site.names.length)]!, 'SIGTERM')
      }
      return 9
    }
  },
  {
    name: 'asked to stop while messages wait behind a batch',
    transports: ['memory', 'rabbitmq'],
    async inject({ site, shop, broken }) {
      const name = site.names.find((one) => one === 'stock' || one === 'all')!
      await shop.answered(20)
      let ended!: Promise<void>
      await whileLocked(
        site.databaseUrl,
        'select from stock_service.products for update',
        async () => {
          // The first of these are in a batch that waits for the products.
          await shop.answered(60)
          ended = site.end(name, 'SIGTERM')
          await sleep(500)
        }
      )
      await ended
      if (site.brokerUrl)
        broken.push(...(await handledAndWaiting(site.brokerUrl, site.databaseUrl)))
      site.run(name)
      await site.ready(name)
      return 1
    }
  }
]

/** A consumer has at most 200 messages in hand; given back, they stand before all others. */
const MOST_HANDED_OUT = 250

/**
 * Messages in stock's queue that stock has handled already: they would be delivered again for
 * nothing.
 */
async function handledAndWaiting(brokerUrl: string, databaseUrl: string): Promise<string[]> {
  const connection = await connect(brokerUrl)
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const channel = await connection.createChannel()
    const waiting: string[] = []
    while (waiting.length < MOST_HANDED_OUT) {
      const got = await channel.get('stock')
      if (!got) break
      waiting.push(got.properties.messageId as string)
    }
    const { rowCount } = await client.query(
      `select from stock_service.inbox where endpoint = 'stock' and message_id = any($1::uuid[])`,
      [waiting]
    )
    return rowCount
      ? [`nothing that was handled is delivered again after a clean stop: not so for ${rowCount}`]
      : []
  } finally {
    await client.end()
    await connection.close()
  }
}
