import pg from 'pg'
import { until } from '../support/until.ts'
import type { Fault } from './fault.ts'

/** What only an event would end, and no event comes. */
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
        const found = await until('the poison is a dead letter', async () => (await client.query(LOSE)).rows[0] as { id: string } | undefined)
        const api = await site.api()
        const { status } = await api.call('POST', `/ops/stock/dead-letters/${found.id}/retry`)
        if (status !== 202) broken.push(`a letter that was lost can be sent back: not so, ${status}`)
        else await until('it is back', async () => (await client.query(IS_BACK, [found.id])).rowCount === 1)
      } finally {
        await client.end()
      }
      return 1
    },
    rules: { 'no letter is retried for ever': `select id from stock_service.dead_letter where status = 'retrying'` }
  }
]

/** As if its queue had been purged after it was sent back, eleven minutes ago. */
const LOSE = `
  update stock_service.dead_letter set status = 'retrying', retried_at = now() - interval '11 minutes', last_seen_at = now() - interval '12 minutes'
  where id = (select min(id) from stock_service.dead_letter) returning id`

const IS_BACK = `select from stock_service.dead_letter where id = $1 and status = 'waiting' and seen = 2`
