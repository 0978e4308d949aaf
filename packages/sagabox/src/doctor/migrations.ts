import type { ClientBase } from 'pg'
import { readMigrations, type Migration } from '../messaging/postgres/migrations.ts'

/** A migration as it would be run in an empty schema. */
export interface MigrationStep extends Pick<Migration, 'id' | 'checksum' | 'source'> {
  /** Inside a transaction that the caller has begun. */
  run(client: ClientBase): Promise<void>
}

/** What makes a schema, in its order. */
export function stepsOf(sources: readonly string[]): MigrationStep[] {
  return readMigrations(sources).map(({ id, checksum, source, sql }) => ({
    id,
    checksum,
    source,
    async run(client) {
      // What is built beside running work on a large table is built at once in an empty one.
      await client.query(sql.replaceAll(/\bconcurrently\b/gi, ''))
    }
  }))
}
