import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import type { Fault } from './fault.ts'

const ORPHANS = 500

/** One queue takes nothing, or too much. */
export const queueFaults: Fault[] = [
  {
    name: 'one queue is full, and its consumer down',
    transports: ['rabbitmq'],
    apart: true,
    async inject({ site, shop, broken }) {
      await shop.answered(10)
      await site.end('payment', 'SIGKILL')
      const lift = await limit(site.brokerUrl!, 'payment')
      await shop.answered(60)
      await sleep(5000)
      const [{ priced }] = await ask<[{ priced: number }]>(site.databaseUrl, PRICED)
      if (priced < 20)
        broken.push(
          `messages to other queues go on: not so, stock's answer reached ${priced} orders`
        )
      // It is still too small for what waits.
      site.run('payment')
      await site.ready('payment')
      await sleep(2000)
      await lift()
      return 1
    }
  },
  {
    name: 'events of 500 orders that do not exist',
    transports: ['memory', 'rabbitmq'],
    async inject({ site, shop, poisoned }) {
      await shop.answered(20)
      const rows = await ask<{ id: string }[]>(site.databaseUrl, INSERT_ORPHANS, [ORPHANS])
      for (const { id } of rows) poisoned.add(id)
      await shop.answered(60)
      return ORPHANS
    }
  }
]

const PRICED = `select count(*)::integer as priced from order_service.saga where state = 'Suspend.takingPayment'`

const INSERT_ORPHANS = `
  insert into stock_service.outbox (message_id, destination, required, payload)
  select id, 'order', true, json_build_object(
    'messageId', id, 'correlationId', nobody, 'messageType', json_build_array('urn:message:Contracts:StockReservedEvent'),
    'message', json_build_object('orderId', nobody, 'customerId', 'nobody', 'items', json_build_array(json_build_object('productId', 'keyboard', 'quantity', 1)),
      'total', 1000, 'currency', 'EUR', 'paymentMethod', 'pm_card_visa'))::text
  from (select gen_random_uuid() as id, gen_random_uuid() as nobody
    from generate_series(1, $1)) as orphans
  returning message_id as id`

/** The queue holds one message, and refuses more. Returns what lifts that. */
async function limit(brokerUrl: string, queue: string): Promise<() => Promise<void>> {
  const { managementUrl } = await rabbitmqForTests()
  const { username, password, pathname } = new URL(brokerUrl)
  const policy = async (method: string, body?: object) => {
    const response = await fetch(new URL(`/api/policies${pathname}/full`, managementUrl), {
      method,
      headers: {
        authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
        'content-type': 'application/json'
      },
      ...(body && { body: JSON.stringify(body) })
    })
    if (!response.ok)
      throw new Error(
        `RabbitMQ management: ${method} a policy -> ${response.status} ${await response.text()}`
      )
  }
  await policy('PUT', {
    pattern: `^${queue}$`,
    definition: { 'max-length': 1, overflow: 'reject-publish' },
    'apply-to': 'queues'
  })
  return () => policy('DELETE')
}

async function ask<Rows extends unknown[]>(
  databaseUrl: string,
  sql: string,
  values: unknown[] = []
): Promise<Rows> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    return (await client.query(sql, values)).rows as Rows
  } finally {
    await client.end()
  }
}
