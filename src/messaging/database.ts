import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client, escapeIdentifier, type ClientBase, type QueryConfig } from 'pg'
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
  /**
   * How long a statement, a lock and a connection are waited for; DEFAULT_PATIENCE when not given.
   */
  patience?: Patience
  log: Log
}

export interface Patience {
  statementMs: number
  lockMs: number
  /** For a connection of the pool, or from the server: then the database counts as away. */
  connectionMs: number
}

/** Of handlers and workers, which have nobody waiting. */
const DEFAULT_PATIENCE: Patience = { statementMs: 12_000, lockMs: 5000, connectionMs: 10_000 }

/**
 * A service's data source, not yet connected. Statements find their tables by the connection's search_path, so none of
 * them names a schema.
 */
export function createDataSource(options: DatabaseOptions): DataSource {
  const { url, schema, migrations, entities = [], poolSize, log } = options
  const { statementMs, lockMs, connectionMs } = options.patience ?? DEFAULT_PATIENCE
  return new DataSource({
    type: 'postgres',
    url: withoutOptions(url),
    schema,
    entities: [...entities],
    migrations: migrations.flatMap(sqlMigrations),
    migrationsTableName: 'migrations',
    applicationName: `sagabox ${schema}`,
    poolSize,
    poolErrorHandler: (error: Error) => log.warn({ err: error, schema }, 'An idle database connection was lost'),
    extra: {
      // Statements keep the plan of their first runs: one made for a table that was still small would read all of it for ever.
      // A bitmap scan does not learn which index entries are dead.
      options: sessionOptions(url, schema, `-c enable_seqscan=off -c enable_bitmapscan=off -c lock_timeout=${lockMs} -c idle_in_transaction_session_timeout=30s -c statement_timeout=${statementMs}`),
      connectionTimeoutMillis: connectionMs,
      query_timeout: QUERY_TIMEOUT_MS,
      // Between the pool's listener and TypeORM's there is none for a moment: a server that stops just then would end the process.
      onConnect: (client: Client) => void client.on('error', () => {}),
      keepAlive: true,
      // Statements that do not wait for each other go to the server in one packet. Without it, pg would keep a connection whose
      // query has timed out, and nothing sent over it would ever be answered.
      pipeline: true
    }
  })
}

/**
 * Makes the schema, connects the pool and runs the pending migrations, one process at a time.
 * @throws whatever the database answers; the caller decides whether to try again
 */
export async function connectDatabase(dataSource: DataSource, { url, schema, log }: DatabaseOptions): Promise<void> {
  const lock = new Client({ connectionString: withoutOptions(url), options: sessionOptions(url, schema, '-c lock_timeout=5s'), connectionTimeoutMillis: 3000 })
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

/** A bigint column as a number: never beyond Number.MAX_SAFE_INTEGER, which contracts and routes see to. */
export const bigintAsNumber = { from: (value: string | null) => (value === null ? null : Number(value)), to: (value: number | null) => value }

/** A migration without an answer for so long, ms, means the same. */
const MIGRATION_TIMEOUT_MS = 24 * 3_600_000

/** A query without an answer for so long, ms, means a dead connection, which pg then ends. The server gives up two seconds later, by statement_timeout. */
const QUERY_TIMEOUT_MS = 10_000

/**
 * Session settings as a connection option: the schema's tables are found without naming it, and a peer that vanished is
 * noticed in seconds, so that its locks (the relay's lead among them) do not outlive it by hours. Options in the URL,
 * which would replace ours, are kept beside them.
 */
export function sessionOptions(url: string, schema: string, more: string): string {
  const given = new URL(url).searchParams.get('options') ?? ''
  return `${given} -c search_path=${schema} -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 ${more}`.trim()
}

export function withoutOptions(url: string): string {
  const parsed = new URL(url)
  parsed.searchParams.delete('options')
  return parsed.href
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
      const concurrent = /\bconcurrently\b/.test(sql)
      return class {
        // TypeORM orders migrations by the last thirteen digits of their name.
        readonly name = `${title}-0${digits}`
        /** What is built beside running work cannot be built in a transaction: a file of its own, safe to run again. */
        readonly transaction = !concurrent
        async up(runner: QueryRunner): Promise<void> {
          const client = (await runner.connect()) as ClientBase
          // As long as it takes: a large table is no dead connection, and its lock no deadlock.
          const run = (text: string) => client.query({ text, query_timeout: MIGRATION_TIMEOUT_MS } as QueryConfig)
          if (!concurrent) {
            await run('set local statement_timeout = 0')
            return void (await run(sql))
          }
          await run('set lock_timeout = 0; set statement_timeout = 0')
          try {
            for (const text of sql.split(/;\s*$/m).filter((part) => part.trim() !== '')) await run(text)
          } finally {
            await run('reset lock_timeout; reset statement_timeout')
          }
        }
        /** Migrations only go forward: to undo one, write the next. */
        async down(): Promise<void> {
          throw new Error(`${title}: migrations only go forward`)
        }
      }
    })
}
