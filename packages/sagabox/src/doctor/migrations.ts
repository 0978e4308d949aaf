import type { ClientBase } from 'pg'
import type { QueryRunner } from 'typeorm'
import { sqlMigrations } from '../messaging/postgres/migrations.ts'

/** A migration as it would be run in an empty schema. */
export interface MigrationStep {
  /** As a database records it. */
  name: string
  /** Inside a transaction that the caller has begun. */
  run(client: ClientBase): Promise<void>
}

/** What makes a schema, in its order. */
export function stepsOf(sources: readonly string[]): MigrationStep[] {
  return sqlMigrations(sources)
    .map((Migration) => new Migration())
    .map(({ name = '', up }) => ({
      name,
      run: (client: ClientBase) => up({ connect: async () => inTransaction(client) } as QueryRunner)
    }))
    .toSorted((one, other) => (orderOf(one.name) < orderOf(other.name) ? -1 : 1))
}

function orderOf(name: string): string {
  return name.slice(-13)
}

/** What is built beside running work on a large table is built at once in an empty one. */
function inTransaction(client: ClientBase): Pick<ClientBase, 'query'> {
  const query = (given: { text: string }) =>
    client.query(given.text.replaceAll(/\bconcurrently\b/gi, ''))
  return { query } as Pick<ClientBase, 'query'>
}

/**
 * The migrations that a database has run, by name. (Whether one was edited since is for whoever
 * records checksums to say.)
 * @returns undefined when the schema was never migrated
 */
export async function recordedIn(
  client: ClientBase,
  schema: string
): Promise<string[] | undefined> {
  const table = `${client.escapeIdentifier(schema)}.migrations`
  const { rows } = await client.query<{ there: boolean }>(
    'select to_regclass($1) is not null as there',
    [table]
  )
  if (!rows[0]!.there) return undefined
  const recorded = await client.query<{ name: string }>(`select name from ${table} order by id`)
  return recorded.rows.map(({ name }) => name)
}
