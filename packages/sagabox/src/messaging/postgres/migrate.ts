import { setTimeout as pause } from 'node:timers/promises'
import { escapeIdentifier, type QueryConfig } from 'pg'
import type { Log } from '../async/log.ts'
import { codeOf } from '../errors/database-away.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'
import {
  createRecords,
  readRecords,
  record,
  takenOver,
  type Applied,
  type Records
} from './migration-records.ts'
import { readMigrations, statementsOf, type Migration } from './migrations.ts'
import {
  isThere,
  makeSchema,
  refuseMissingRights,
  refuseWithoutCreate,
  refuseWithoutUsage
} from './schema.ts'
import { Session, SessionClient } from './session.ts'

/**
 * What a process does about migrations when it connects. `auto`: it makes the schema and runs what
 * is pending; `check`: it starts only when nothing is pending, and changes nothing; `off`: it looks
 * at nothing.
 */
export type MigrateMode = 'auto' | 'check' | 'off'

/** A schema, and what belongs into it. */
export interface MigrateOptions {
  url: string
  schema: string
  /** See readMigrations. */
  migrations: readonly string[]
  log: Log
  /** Told of each before it runs. */
  began?(migration: Migration): void
  /**
   * Who gives it waits for others as long as it takes. Once it is aborted, what runs is finished and
   * nothing more is begun.
   */
  signal?: AbortSignal
}

export interface MigrationPlan {
  /** Not run yet, in the order in which they would be. */
  pending: Migration[]
  /** Recorded, and not known to this build. */
  unknown: string[]
}

/** A migration is not what it was when it ran. */
export class MigrationEdited extends SagaboxError {
  override readonly name = 'MigrationEdited'
  override readonly code = 'MIGRATION_EDITED'
}

/** Migrations have to be run before this build can work, and this process is not to run them. */
export class MigrationsPending extends SagaboxError {
  override readonly name = 'MigrationsPending'
  override readonly code = 'MIGRATIONS_PENDING'
}

/** The database refuses a migration, or was lost while it ran. */
export class MigrationFailed extends SagaboxError {
  override readonly name = 'MigrationFailed'
  override readonly code = 'MIGRATION_FAILED'
  /** SQLSTATE, or the system's code; undefined when there is none. */
  readonly databaseCode: string | undefined

  constructor(source: string, cause: unknown) {
    super(`The migration ${source}: ${(cause as Error).message}`, { cause })
    this.databaseCode = codeOf(cause)
  }
}

/** A migration without an answer for so long, ms, means a dead connection. */
const MIGRATION_TIMEOUT_MS = 24 * 3_600_000
/** How long another process is waited for, and how often it is looked whether it is ready, ms. */
const LOCK_MS = 12_000
const LOOK_MS = 50

/**
 * Does about schema and migrations what the mode says.
 * @throws MigrationEdited, MigrationsPending, UnfitSession; Error what the database answers
 */
export async function prepareDatabase(
  options: MigrateOptions & { migrate?: MigrateMode }
): Promise<void> {
  const { schema, migrate: mode = 'auto' } = options
  if (mode === 'off') return
  if (mode === 'auto') return void (await migrate(options))
  await inSession(options, async (client) => {
    const { pending } = await readPlan(client, options)
    if (pending.length > 0)
      throw new MigrationsPending(
        `${pending.length} migrations of the schema ${schema} are pending: ${pending.map(({ id }) => id).join(', ')}. ` +
          'Expected none, because migrate is check: run `npx sagabox migrate`, or start with MIGRATE=auto'
      )
    await refuseMissingRights(client, schema)
  })
}

/**
 * What is pending. It changes nothing, and waits for nobody.
 * @throws MigrationEdited; UnfitSession; Error what the database answers
 */
export function planMigrations(options: MigrateOptions): Promise<MigrationPlan> {
  return inSession(options, (client) => readPlan(client, options))
}

async function readPlan(client: SessionClient, options: MigrateOptions): Promise<MigrationPlan> {
  const migrations = readMigrations(options.migrations)
  await refuseWithoutUsage(client, options.schema)
  const records = await readRecords(client, options.schema)
  return planOf(options, migrations, records)
}

/**
 * Makes the schema and runs what is pending, one process at a time. What has run stays when a later
 * one fails.
 * @param to the id of the last one to run; all when not given
 * @returns the ids of those that ran
 * @throws MigrationEdited; MigrationFailed; UnfitSession when the role may not do it; Error when
 * `to` is unknown, or another process is at it for too long
 */
export function migrate(options: MigrateOptions, to?: string): Promise<string[]> {
  const { schema, log } = options
  return inSession(options, async (client) => {
    const migrations = readMigrations(options.migrations)
    const last = to === undefined ? migrations.length : migrations.findIndex(({ id }) => id === to)
    if (last < 0)
      throw new Error(
        `There is no migration ${to} for the schema ${schema}; expected one of ${migrations.map(({ id }) => id).join(', ')}`
      )
    await takeLock(client, options)
    await makeSchema(client, schema)
    const records = await readRecords(client, schema)
    const { pending } = planOf(options, migrations, records)
    if (!records || records.areFormer || pending.length > 0)
      await refuseWithoutCreate(client, schema)
    if (!records || records.areFormer) {
      const taken = takenOver(records?.applied ?? [], migrations)
      const texts = [createRecords(schema), ...taken.map((one) => record(schema, one))]
      await client.query(`begin; ${texts.join('; ')}; commit`)
    }
    const chosen = pending.filter((one) => migrations.indexOf(one) <= last)
    const ran: string[] = []
    for (const migration of chosen) {
      if (options.signal?.aborted) return ran
      options.began?.(migration)
      await apply(client, schema, migration)
      ran.push(migration.id)
      log.info({ schema, migration: migration.id }, 'Migrated')
    }
    await refuseMissingRights(client, schema)
    return ran
  })
}

/**
 * What `migrate` would do, as a script for psql. It is only for the database as it is now.
 * @throws MigrationEdited; Error what the database answers
 */
export function migrationScript(options: MigrateOptions): Promise<string> {
  const { schema } = options
  return inSession(options, async (client) => {
    const migrations = readMigrations(options.migrations)
    const records = await readRecords(client, schema)
    const { pending } = planOf(options, migrations, records)
    const taken = records?.areFormer ? takenOver(records.applied, migrations) : []
    const parts = [
      `-- The schema ${schema}: ${pending.length} migrations.`,
      String.raw`\set ON_ERROR_STOP on`,
      // Where it is there, PostgreSQL would still ask for the right to create schemas.
      ...((await isThere(client, schema)) ? [] : [`create schema ${escapeIdentifier(schema)};`]),
      `set search_path = ${escapeIdentifier(schema)};`,
      ...(records && !records.areFormer ? [] : [`${createRecords(schema)};`]),
      ...taken.map((one) => `${record(schema, one)};`),
      ...pending.map((migration) => {
        const steps = migration.sql.trimEnd().replace(/;?$/, ';')
        const all = `${steps}\n${record(schema, migration)};`
        return `-- ${migration.id}\n${migration.isConcurrent ? all : `begin;\n${all}\ncommit;`}`
      })
    ]
    return `${parts.join('\n\n')}\n`
  })
}

/**
 * Also says that the database is of a newer build than this process. It starts all the same: while
 * a deploy is under way, and when one is taken back, older code runs beside newer tables on purpose
 * (docs/decisions/0056-what-is-built-is-decided-by-content.md).
 */
function planOf(
  { schema, log }: MigrateOptions,
  migrations: readonly Migration[],
  records: Records | undefined
): MigrationPlan {
  const applied = new Map<string, Applied>((records?.applied ?? []).map((one) => [one.id, one]))
  for (const { id, checksum, source } of migrations) {
    const recorded = applied.get(id)?.checksum
    if (recorded !== undefined && recorded !== checksum)
      throw new MigrationEdited(
        `${source} was changed after it had run in the schema ${schema}: its SHA-256 is ${checksum}, and ${recorded} was recorded. ` +
          'Expected the text that has run: put it back, and write what is to change as the next migration'
      )
  }
  const known = new Set(migrations.map(({ id }) => id))
  const unknown = [...applied.keys()].filter((id) => !known.has(id))
  if (unknown.length > 0)
    log.warn(
      { schema, migrations: unknown },
      'This build is older than the database: it does not know these migrations. Fine while a newer build is being deployed or was taken back; else start the newer build'
    )
  return { pending: migrations.filter(({ id }) => !applied.has(id)), unknown }
}

/**
 * Asks again and again: a statement that waits for a lock has a snapshot, for whose end
 * `create index concurrently` of the process that has the lock would wait.
 * @throws Error when others have it for too long
 */
async function takeLock(client: SessionClient, { schema, signal }: MigrateOptions): Promise<void> {
  for (const began = performance.now(); ; await pause(LOOK_MS)) {
    const { rows } = await client.query<{ locked: boolean }>(
      `select pg_try_advisory_lock(hashtext('sagabox.migrate'), hashtext($1)) as locked`,
      [schema]
    )
    if (rows[0]!.locked) return
    if (signal ? signal.aborted : performance.now() - began > LOCK_MS)
      throw new Error(`another process has been migrating the schema ${schema} for a while`)
  }
}

async function apply(client: SessionClient, schema: string, migration: Migration): Promise<void> {
  const { sql, isConcurrent, source } = migration
  // As long as it takes: a large table is no dead connection, and its lock no deadlock.
  const run = (text: string) =>
    client.query({ text, query_timeout: MIGRATION_TIMEOUT_MS } as QueryConfig)
  try {
    if (isConcurrent) {
      await run('set lock_timeout = 0; set statement_timeout = 0')
      for (const text of statementsOf(migration)) await run(text)
      await run('reset lock_timeout; reset statement_timeout')
      await client.query(record(schema, migration))
      return
    }
    await client.query('begin; set local statement_timeout = 0')
    await run(sql)
    await client.query(record(schema, migration))
    await client.query('commit')
  } catch (error) {
    throw new MigrationFailed(source, error)
  }
}

async function inSession<R>(
  { url, schema }: MigrateOptions,
  work: (client: SessionClient) => Promise<R>
): Promise<R> {
  const client = await firstConnection(
    new Session({
      url,
      schema,
      applicationName: `sagabox ${schema}`,
      settings: { lock_timeout: '5s', statement_timeout: '12s' }
    })
  )
  try {
    return await work(client)
  } finally {
    // What is open in it is undone, and its lock is gone with it.
    await client.end()
  }
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
