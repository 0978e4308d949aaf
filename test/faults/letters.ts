import pg from 'pg'
import { until } from '../support/until.ts'
import type { Fault } from './fault.ts'

/** Letters, and what must become one. */
export const letterFaults: Fault[] = [
  {
    name: 'a letter whose message is gone',
    transports: ['memory', 'rabbitmq'],
    site: { parts: ['all'] },
    async inject({ site, shop, broken }) {
      await shop.answered(20)
      const client = new pg.Client({ connectionString: site.databaseUrl })
      await client.connect()
      try {
        const found = await until(
          'the poison is a dead letter',
          async () => (await client.query(LOSE)).rows[0] as { id: string } | undefined
        )
        const api = await site.api()
        const { status } = await api.call('POST', `/ops/stock/dead-letters/${found.id}/retry`)
        if (status !== 202)
          broken.push(`a letter that was lost can be sent back: not so, ${status}`)
        else
          await until(
            'it is back',
            async () => (await client.query(IS_BACK, [found.id])).rowCount === 1
          )
      } finally {
        await client.end()
      }
      return 1
    },
    rules: {
      'no letter is retried for ever': `select id from stock_service.dead_letter where status = 'retrying'`
    }
  },
  {
    name: 'other messages under ids that were handled',
    transports: ['memory', 'rabbitmq'],
    site: { parts: ['all'] },
    async inject({ site, shop, poisoned }) {
      await shop.answered(30)
      const client = new pg.Client({ connectionString: site.databaseUrl })
      await client.connect()
      try {
        const completed = async () => (await client.query(COMPLETED)).rowCount! >= REUSED
        await until(`${REUSED} orders are completed`, completed)
        const { rows } = await client.query<{ id: string }>(REUSE, [REUSED])
        for (const { id } of rows) poisoned.add(id)
        await shop.answered(60)
        return rows.length
      } finally {
        await client.end()
      }
    },
    rules: {
      'a letter says that its id was used': `
        select message_id from stock_service.dead_letter
        where message_type = 'ReleaseStock' and exception is distinct from 'MessageIdReused'`
    }
  }
]

/** Ids that are used again. */
const REUSED = 10

const COMPLETED = `select from order_service.orders where status = 'Completed'`

/**
 * Taken for the messages they are, they would give back what was sold; taken for copies, they would
 * be lost.
 */
const REUSE = `
  with handled as (
    select message_id, row_number() over () as nth from stock_service.inbox where endpoint = 'stock'
  ), sold as (
    select order_id, row_number() over () as nth from order_service.orders
    where status = 'Completed'
  )
  insert into stock_service.outbox (message_id, destination, required, payload)
  select message_id, 'stock', true, json_build_object(
    'messageId', message_id, 'correlationId', order_id,
    'messageType', json_build_array('urn:message:Contracts:ReleaseStock'),
    'message', json_build_object('orderId', order_id))::text
  from handled join sold using (nth) where nth <= $1
  returning message_id as id`

/** As if its queue had been purged after it was sent back, eleven minutes ago. */
const LOSE = `
  update stock_service.dead_letter set status = 'retrying',
    retried_at = now() - interval '11 minutes', last_seen_at = now() - interval '12 minutes'
  where id = (select min(id) from stock_service.dead_letter) returning id`

const IS_BACK = `select from stock_service.dead_letter where id = $1 and status = 'waiting' and seen = 2`
