import { createHash } from 'node:crypto'
import pg from 'pg'
import t, { type Test } from 'tap'
import { InboxCleaner } from '../src/messaging/inbox-cleaner.ts'
import { Relay } from '../src/messaging/relay.ts'
import type { Answer } from './support/api.ts'
import { startSystem, testLog, type TestSystem } from './support/system.ts'
import { until } from './support/until.ts'

t.setTimeout(120_000)

const LETTERS = '/ops/stock/dead-letters'

async function open(t: Test, settings?: object): Promise<TestSystem & { database: pg.Client }> {
  const started = await startSystem(t, 'memory', { settings: { redeliverySeconds: [], deadlineSeconds: 600, ...settings } })
  const database = new pg.Client({ connectionString: started.databaseUrl })
  await database.connect()
  t.teardown(() => database.end())
  await database.query('set search_path = stock_service')
  return { ...started, database }
}
