import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client, escapeIdentifier } from 'pg'
import { DataSource, type EntitySchema, type MigrationInterface, type QueryRunner } from 'typeorm'
import type { Log } from './log.ts'

export interface DatabaseOptions {
  /** `postgres://user:password@host:port/database` */
  url: string
  /** The service's own schema; made when missing. */
  schema: string
  /** Folders of `<yyyymmddhhmm>-<name>.sql` files, run forward in the order of their names. */
  migrations: readonly string[]
  entities?: readonly EntitySchema[]
  /** Connections in the pool. */
  poolSize: number
  log: Log
}

/**
 * A service's data source, not yet connected. Statements find their tables by the connection's search_path, so none of
 * them names a schema.
 */
export function createDataSource({ url, schema, migrations, entities = [], poolSize, log }: DatabaseOptions): DataSource {
  return new DataSource({
    type: 'postgres',
    url,
    schema,
    entities: [...entities],
    migrations: migrations.flatMap(sqlMigrations),
    migrationsTableName: 'migrations',
    applicationName: `sagabox ${schema}`,
    poolSize,
    poolErrorHandler: (error: Error) => log.warn({ err: error, schema }, 'An idle database connection was lost'),
    extra: {
      options: `-c search_path=${schema} -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s`,
      connectionTimeoutMillis: 3000,
      query_timeout: 30_000,
      keepAlive: true
    }
  })
}

/**
 * Makes the schema, connects the pool and runs the pending migrations, one process at a time.
 * @throws whatever the database answers; the caller decides whether to try again
 */
export async function connectDatabase(dataSource: DataSource, { url, schema, log }: DatabaseOptions): Promise<void> {
  const lock = new Client({ connectionString: url, connectionTimeoutMillis: 3000 })
  lock.on('error', (error) => log.debug({ err: error, schema }, 'Migration lock connection lost'))
  await lock.connect()
  try {
    await lock.query(`select pg_advisory_lock(hashtext('sagabox.migrate'), hashtext($1))`, [schema])
    await lock.query(`create schema if not exists ${escapeIdentifier(schema)}`)
    await dataSource.initialize()
    for (const { name } of await dataSource.runMigrations({ transaction: 'each' })) log.info({ schema, migration: name }, 'Migrated')
  } catch (error) {
    if (dataSource.isInitialized) await dataSource.destroy()
    throw error
  } finally {
    await lock.end()
  }
}

/** One TypeORM migration for each SQL file of a folder. */
function sqlMigrations(folder: string): (new () => MigrationInterface)[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.sql'))
    .toSorted()
    .map((file) => {
      const [, digits, title] = /^(\d{12})-(.+)\.sql$/.exec(file) ?? []
      if (!digits || !title) throw new Error(`${join(folder, file)}: expected a name like 202601311200-what-it-does.sql`)
      const sql = readFileSync(join(folder, file), 'utf8')
      return class {
        // TypeORM orders migrations by the last thirteen digits of their name.
        readonly name = `${title}-0${digits}`
        async up(runner: QueryRunner): Promise<void> {
          await runner.query(sql)
        }
        /** Migrations only go forward: to undo one, write the next. */
        async down(): Promise<void> {
          throw new Error(`${title}: migrations only go forward`)
        }
      }
    })
}
