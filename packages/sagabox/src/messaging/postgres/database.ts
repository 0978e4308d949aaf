import { escapeIdentifier } from 'pg'
import { DataSource, type EntitySchema } from 'typeorm'
import { sayingAway } from '../errors/database-away.ts'
import { Outage } from './outage.ts'
import { UnfitSession } from './server.ts'
import type { Log } from '../async/log.ts'
import { ONE_SYNC } from '../../quick-ways.ts'
import { sqlMigrations } from './migrations.ts'
import { probeOneSync } from './probe-one-sync.ts'
import { SessionPool } from './session-pool.ts'
import { Session, SessionClient, type SessionConfig } from './session.ts'
import { warnOfUnknownMigrations } from './unknown-migrations.ts'

export interface DatabaseOptions {
  /** `postgres://user:password@host:port/database`; what else it may say: see parseDatabaseUrl. */
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
  /** Told of connections; one of its own when not given. */
  outage?: Outage
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
 * A service's data source, not yet connected. Statements find their tables by the connection's
 * search_path, so none of them names a schema.
 * @throws {DatabaseUrlError}
 */
export function createDataSource(options: DatabaseOptions): DataSource {
  const { url, schema, migrations, entities = [], poolSize, log } = options
  const { statementMs, lockMs, connectionMs } = options.patience ?? DEFAULT_PATIENCE
  ONE_SYNC.probe(probeOneSync).tell(log)
  const session = new Session({
    url,
    schema,
    applicationName: `sagabox ${schema}`,
    settings: {
      lock_timeout: asShown(lockMs),
      idle_in_transaction_session_timeout: '30s',
      statement_timeout: asShown(statementMs)
    },
    outage: options.outage ?? new Outage(schema, log)
  })
  const connection: SessionConfig = {
    session,
    query_timeout: QUERY_TIMEOUT_MS,
    // Statements that do not wait for each other go to the server in one packet. Without it, pg
    // would keep a connection whose query has timed out, and nothing sent over it would ever be
    // answered.
    pipeline: true
  }
  return sayingAway(
    new DataSource({
      type: 'postgres',
      driver: { Pool: SessionPool },
      database: session.server.address.database,
      schema,
      entities: [...entities],
      migrations: sqlMigrations(migrations),
      migrationsTableName: 'migrations',
      poolSize,
      // Outage says it, once.
      poolErrorHandler: () => {},
      extra: {
        ...connection,
        connectionTimeoutMillis: connectionMs
      }
    })
  )
}

/**
 * Makes the schema, connects the pool and runs the pending migrations, one process at a time.
 * @throws {UnfitSession} when the database answers and cannot be used; else whatever the database
 * answers. The caller decides whether to try again
 */
export async function connectDatabase(
  dataSource: DataSource,
  { url, schema, log }: DatabaseOptions
): Promise<void> {
  const lock = await firstConnection(
    new Session({
      url,
      schema,
      applicationName: `sagabox ${schema}`,
      settings: { lock_timeout: '5s', statement_timeout: '12s' }
    })
  )
  try {
    await lock.query(`select pg_advisory_lock(hashtext('sagabox.migrate'), hashtext($1))`, [schema])
    await makeSchema(lock, schema)
    await dataSource.initialize()
    for (const { name } of await dataSource.runMigrations({ transaction: 'each' }))
      log.info({ schema, migration: name }, 'Migrated')
    await refuseMissingRights(lock, schema)
    await warnOfUnknownMigrations(dataSource, schema, log)
  } catch (error) {
    if (dataSource.isInitialized) await dataSource.destroy()
    throw error
  } finally {
    await lock.end()
  }
}

/**
 * A bigint column as a number: never beyond Number.MAX_SAFE_INTEGER, which contracts and routes see
 * to.
 */
export const bigintAsNumber = {
  from: (value: string | null) => (value === null ? null : Number(value)),
  to: (value: number | null) => value
}

/**
 * A query without an answer for so long, ms, means a dead connection, which pg then ends. The
 * server gives up two seconds later, by statement_timeout.
 */
const QUERY_TIMEOUT_MS = 10_000

/** A time below a minute, ms, as PostgreSQL shows it: that is what a session is compared with. */
function asShown(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`
}

/**
 * It finds out whether settings can go with the connection: tried again at once when they cannot.
 */
async function firstConnection(session: Session): Promise<SessionClient> {
  for (;;) {
    const { takesOptions } = session.server
    const client = new SessionClient({ session })
    try {
      await client.connect()
      return client
    } catch (error) {
      if (session.server.takesOptions === takesOptions) throw error
    }
  }
}

/** PostgreSQL asks for the right to create schemas also when there is nothing to create. */
async function makeSchema(client: SessionClient, schema: string): Promise<void> {
  const { rows } = await client.query<{
    user: string
    found: boolean
    mayMake: boolean
    mayFill: boolean
  }>(
    `select current_user as "user", n.oid is not null as found, has_database_privilege(current_database(), 'create') as "mayMake",
      coalesce(has_schema_privilege(n.oid, 'usage'), true) as "mayFill"
    from (select) as one left join pg_namespace n on nspname = $1`,
    [schema]
  )
  const { user, found, mayMake, mayFill } = rows[0]!
  if (!found && !mayMake) {
    throw new UnfitSession(
      `the schema ${schema} is missing, and the role ${user} may not create schemas in the database ${client.database}: ` +
        `expected "grant create on database ${client.database} to ${user}", or "create schema ${schema} authorization ${user}"`
    )
  }
  if (!mayFill)
    throw new UnfitSession(
      `the role ${user} may not use the schema ${schema}: expected "grant usage, create on schema ${schema} to ${user}"`
    )
  if (!found) await client.query(`create schema if not exists ${escapeIdentifier(schema)}`)
}

/** Tables that another role has made: each of them is at least read and added to. */
async function refuseMissingRights(client: SessionClient, schema: string): Promise<void> {
  const { rows } = await client.query<{ user: string; name: string }>(
    `select current_user as "user", relname as name from pg_class
    where relnamespace = to_regnamespace($1) and relkind in ('r', 'p') and relname <> 'migrations'
      and not (has_table_privilege(oid, 'select') and has_table_privilege(oid, 'insert')) order by relname limit 1`,
    [escapeIdentifier(schema)]
  )
  if (rows.length === 0) return
  const [{ user, name }] = rows as [(typeof rows)[0]]
  throw new UnfitSession(
    `the role ${user} may not read and write the table ${name} of the schema ${schema}, which another role has made: ` +
      `expected "grant select, insert, update, delete on all tables in schema ${schema} to ${user}" and "grant usage on all sequences in schema ${schema} to ${user}"`
  )
}
