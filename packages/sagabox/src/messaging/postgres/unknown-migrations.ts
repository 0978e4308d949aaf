import type { DataSource } from 'typeorm'
import type { Log } from '../async/log.ts'

/**
 * Says once at start that the database is of a newer build than this process. It starts all the
 * same: while a deploy is under way, and when one is taken back, older code runs beside newer
 * tables on purpose (docs/decisions/0056-what-is-built-is-decided-by-content.md).
 * @param dataSource connected and migrated
 */
export async function warnOfUnknownMigrations(
  dataSource: DataSource,
  schema: string,
  log: Log
): Promise<void> {
  const known = dataSource.migrations.map(({ name, constructor }) => name ?? constructor.name)
  const recorded: { name: string }[] = await dataSource.query(
    'select name from migrations order by id'
  )
  const unknown = recorded.map(({ name }) => name).filter((name) => !known.includes(name))
  if (unknown.length === 0) return
  log.warn(
    { schema, migrations: unknown },
    'This build is older than the database: it does not know these migrations. Fine while a newer build is being deployed or was taken back; else start the newer build'
  )
}
