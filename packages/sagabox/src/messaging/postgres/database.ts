import type { PoolClient, QueryConfig, QueryResult, QueryResultRow } from 'pg'
import { DatabaseAway } from '../errors/database-away.ts'
import { Outage } from './outage.ts'
import type { Log } from '../async/log.ts'
import { ONE_SYNC } from '../../quick-ways.ts'
import { prepareDatabase, type MigrateMode } from './migrate.ts'
import { OpenTransaction } from './open-transaction.ts'
import { probeOneSync } from './probe-one-sync.ts'
import { SessionPool } from './session-pool.ts'
import { Session, type SessionConfig } from './session.ts'
import { mustNotEnd, readQuery, type AnyRow, type Queries } from './user-query.ts'

export interface DatabaseOptions {
  /** `postgres://user:password@host:port/database`; what else it may say: see parseDatabaseUrl. */
  url: string
  /** The service's own schema; made when missing. */
  schema: string
  /** See readMigrations. */
  migrations: readonly string[]
  /** What is done about migrations when it connects; `auto` when not given. */
  migrate?: MigrateMode
  /** Whether what users ask is planned as the library's own statements are; see ServiceOptions. */
  avoidScans?: boolean
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
 * A service's connections. Statements find their tables by the connection's search_path, so none of
 * them names a schema.
 */
export class Database implements Queries {
  /** The service's own. */
  readonly schema: string
  /** @internal */
  readonly pool: SessionPool
  /** @internal */
  readonly avoidsScans: boolean
  readonly #options: DatabaseOptions
  #isConnected = false

  /**
   * Connects to nothing yet.
   * @throws DatabaseUrlError
   * @internal
   */
  constructor(options: DatabaseOptions) {
    const { url, schema, poolSize, log } = options
    const { statementMs, lockMs, connectionMs } = options.patience ?? DEFAULT_PATIENCE
    ONE_SYNC.probe(probeOneSync).tell(log)
    this.#options = options
    this.schema = schema
    this.avoidsScans = options.avoidScans ?? false
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
    this.pool = new SessionPool({
      ...connection,
      max: poolSize,
      connectionTimeoutMillis: connectionMs
    })
  }

  /** Whether `connect` has succeeded, and `close` was not called. */
  get isConnected(): boolean {
    return this.#isConnected
  }

  /**
   * Does about schema and migrations what `migrate` says, one process at a time, and makes the first
   * connection of the pool.
   * @throws UnfitSession when the database answers and cannot be used
   * @throws MigrationEdited, MigrationsPending which no retry will change
   * @throws Error whatever the database answers; the caller decides whether to try again
   * @internal
   */
  async connect(): Promise<void> {
    await prepareDatabase(this.#options)
    const client = await this.session()
    client.release()
    this.#isConnected = true
  }

  /**
   * A connection of the pool, to be released.
   * @throws DatabaseAway when none can be had
   */
  async session(): Promise<PoolClient> {
    try {
      return await this.pool.connect()
    } catch (error) {
      throw new DatabaseAway(error)
    }
  }

  /**
   * Runs one statement by itself, in pg's own words: `query(text, values)` or
   * `query({ text, values })`.
   * @throws DatabaseAway when no connection can be had
   * @throws Error what pg throws; a statement that begins or ends a transaction
   */
  readonly query = (async (sent: string | QueryConfig, values?: unknown[]) => {
    const query = readQuery(sent, values)
    mustNotEnd(query.text)
    return this.#with(async (client) => {
      if (this.avoidsScans) return client.query(query)
      // Settings of one statement need a transaction around it.
      const alone = new OpenTransaction(client, false)
      try {
        const result = await alone.query(query)
        await alone.commit()
        return result
      } catch (error) {
        await alone.rollback(error)
        throw error
      } finally {
        alone.close()
      }
    })
  }) as Queries['query']

  /**
   * Runs one of the library's own statements by itself.
   * @returns its rows
   * @internal
   */
  async rows<Row extends QueryResultRow = AnyRow>(
    text: string,
    values?: unknown[]
  ): Promise<Row[]> {
    const { rows } = await this.own<Row>(text, values)
    return rows
  }

  /**
   * Runs one of the library's own statements by itself.
   * @internal
   */
  own<Row extends QueryResultRow>(text: string, values?: unknown[]): Promise<QueryResult<Row>> {
    return this.#with((client) => client.query<Row>(text, values))
  }

  /**
   * Waits for what is under way.
   * @internal
   */
  async close(): Promise<void> {
    this.#isConnected = false
    if (!this.pool.ending) await this.pool.end()
  }

  async #with<R>(work: (client: PoolClient) => Promise<R>): Promise<R> {
    const client = await this.session()
    try {
      return await work(client)
    } finally {
      client.release()
    }
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
