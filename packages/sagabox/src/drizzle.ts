// `sagabox/drizzle`: Drizzle on Sagabox's connections. drizzle-orm is an optional peer.
import type { DrizzleConfig } from 'drizzle-orm'
import { drizzle as onClient, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { PoolClient } from 'pg'
import type { Database } from './messaging/postgres/database.ts'
import type { Tx } from './messaging/postgres/sql.ts'

/**
 * Drizzle on the connection and in the transaction of `tx`; of a service's `database`, outside
 * transactions. It can begin none itself.
 * @param config as Drizzle's own: `{ schema }`
 */
export function drizzle<Schema extends Record<string, unknown> = Record<string, never>>(
  on: Tx | Database,
  config: DrizzleConfig<Schema> = {}
): NodePgDatabase<Schema> {
  return onClient(on as unknown as PoolClient, config)
}
