import pg from 'pg'
import { startPair, type Pair } from '../support/standby.ts'
import { until } from '../support/until.ts'
import type { Fault } from './fault.ts'

/** Who finds out what the old server is may need so long to leave it, ms. */
const LEAVE_MS = 10_000

/** The standby takes over. What was connected stays connected, to a server that takes no writes. */
export const switchoverFaults: Fault[] = [
  {
    name: 'a switchover that keeps old sessions at the old server',
    transports: ['memory', 'rabbitmq'],
    site: { proxied: true },
    async servers(scope) {
      const database = await startPair()
      scope.teardown(() => database.stop())
      return { database }
    },
    async inject({ site, shop, broken }) {
      const pair = site.options.database as Pair
      const old = site.databaseUrl
      await shop.answered(20)
      await pair.switchOver()
      site.moveDatabase(pair.atStandby(old))
      await shop.answered(60)
      const since = await nowAt(old)
      await shop.answered(80)
      broken.push(...(await usedSince(since, old)))
      return 1
    }
  }
]

async function nowAt(databaseUrl: string): Promise<string> {
  const [{ now }] = await ask<[{ now: string }]>(databaseUrl, NOW)
  return now
}

/** Whoever has used a session at the old server knows what it is, and gives it up. */
async function usedSince(time: string, databaseUrl: string): Promise<string[]> {
  let used: number
  const left = async () => (used = (await ask(databaseUrl, USED_SINCE, [time])).length) === 0
  return until('nobody uses the old server', left, LEAVE_MS).then(
    () => [],
    () => [`no session of the old server is used again: not so for ${used}`]
  )
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

const NOW = 'select clock_timestamp()::text as now'

const USED_SINCE = `
  select from pg_stat_activity
  where datname = current_database() and application_name like 'sagabox%'
    and query_start > $1::timestamptz`
