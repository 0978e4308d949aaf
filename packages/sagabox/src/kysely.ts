// `sagabox/kysely`: Kysely on Sagabox's connections. Kysely is an optional peer.
import { Kysely, PostgresDialect, type PostgresPool } from 'kysely'
import type { Database } from './messaging/postgres/database.ts'
import type { Tx } from './messaging/postgres/sql.ts'

/**
 * Kysely on the connection and in the transaction of `tx`; of a service's `database`, outside
 * transactions. It can begin none itself, and cannot stream.
 */
export function kysely<DB>(on: Tx | Database): Kysely<DB> {
  const client = {
    query: (text: string, values: readonly unknown[]) => on.query(text, [...values]),
    release() {}
  }
  const pool = { connect: async () => client, end: async () => {} }
  return new Kysely<DB>({ dialect: new PostgresDialect({ pool: pool as unknown as PostgresPool }) })
}
