import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { closeDatabase } from '../support/closed-database.ts'
import { startPostgres } from '../support/postgres.ts'
import type { Fault } from './fault.ts'
import { whileLocked } from './lock.ts'

const BOTH = ['memory', 'rabbitmq'] as const
const AWAY_MS = 8000
const LOCKED_MS = 20_000

/** The database is there, and does not do what it should. */
export const databaseFaults: Fault[] = [
  {
    name: 'logins refused for 8 s',
    transports: BOTH,
    async inject({ site, shop }) {
      for (let time = 1; time <= 2; time++) {
        await shop.answered(20 * time)
        const closed = await closeDatabase(site.databaseUrl)
        await sleep(AWAY_MS)
        await closed.open()
      }
      return 2
    }
  },
  {
    name: 'a database that takes no writes for 8 s',
    transports: BOTH,
    async servers(scope) {
      const database = await startPostgres()
      scope.teardown(() => database.stop())
      return { database }
    },
    async inject({ site, shop }) {
      for (let time = 1; time <= 2; time++) {
        await shop.answered(20 * time)
        await tell(site.databaseUrl, 'alter system set default_transaction_read_only = on')
        await sleep(AWAY_MS)
        await tell(site.databaseUrl, 'alter system reset default_transaction_read_only')
      }
      return 2
    }
  },
  {
    name: 'behind a pooler that drops session settings',
    transports: BOTH,
    site: { pooled: true },
    inject: ({ shop }) => shop.answered(60).then(() => 60),
    rules: {
      'nothing is made in public': `select tablename from pg_tables where schemaname = 'public'`
    }
  },
  {
    name: 'somebody locks a product for 20 s',
    transports: BOTH,
    async inject({ site, shop, broken }) {
      await shop.answered(20)
      await whileLocked(
        site.databaseUrl,
        `select from stock_service.products where product_id = 'keyboard' for update`,
        async () => {
          const [{ began }] = await tell<[{ began: string }]>(
            site.databaseUrl,
            'select now()::text as began'
          )
          await sleep(LOCKED_MS)
          const [{ completed }] = await tell<[{ completed: number }]>(
            site.databaseUrl,
            COMPLETED_SINCE,
            [began]
          )
          if (completed === 0)
            broken.push('orders for other products go on: not so for all of them')
        }
      )
      return 1
    }
  }
]

const COMPLETED_SINCE = `select count(*)::integer as completed from order_service.orders where status = 'Completed' and created_at > $1::timestamptz`

/** Says something to the server, which then reads its settings again. It may take no writes. */
async function tell<Rows extends unknown[]>(
  databaseUrl: string,
  sql: string,
  values: unknown[] = []
): Promise<Rows> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    options: '-c default_transaction_read_only=off'
  })
  await client.connect()
  try {
    const { rows } = await client.query(sql, values)
    if (sql.startsWith('alter system')) await client.query('select pg_reload_conf()')
    return rows as Rows
  } finally {
    await client.end()
  }
}
