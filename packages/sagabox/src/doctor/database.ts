import { randomBytes } from 'node:crypto'
import { Client } from 'pg'
import { databaseProblem } from '../messaging/postgres/problem.ts'
import { DatabaseServer, placeOf, UnfitSession } from '../messaging/postgres/server.ts'
import { Session, SessionClient } from '../messaging/postgres/session.ts'
import { withoutShell } from '../messaging/postgres/without-shell.ts'
import { SagaboxError } from '../messaging/errors/sagabox-error.ts'
import type { ServiceDefinition } from '../service/define.ts'
import { readRecords, type Applied } from '../messaging/postgres/migration-records.ts'
import { schemaOf } from '../service/migrations.ts'
import { compareCatalogs, readCatalog, type Drift, type Part } from './catalog.ts'
import { skewOf, type Examination, type Finding } from './finding.ts'
import { stepsOf, type MigrationStep } from './migrations.ts'

/** A connection has to be there within, ms. */
const CONNECT_MS = 5000
/** A setting that is sent with a connection, and does not come from elsewhere. */
const PROBE = ['lock_timeout', '4321ms'] as const
/** Looks at the clock; the one that was answered soonest counts. */
const CLOCK_LOOKS = 3
const LIMITS = { lock_timeout: '2s', statement_timeout: '30s' }

/** The database cannot be asked; the message says why and what to do. */
export class DatabaseUnreachable extends SagaboxError {
  override readonly name = 'DatabaseUnreachable'
  override readonly code = 'DATABASE_UNREACHABLE'
}

/**
 * Holds the schemas of services to their migrations, and looks at the way to the database. Nothing
 * that it does stays: what the migrations make is made in a transaction that is taken back.
 * @param url the database of these services
 * @param setting what holds the URL
 * @throws DatabaseUnreachable
 */
export async function examineDatabase(
  url: string,
  services: readonly ServiceDefinition[],
  setting: string
): Promise<Examination> {
  const examination: Examination = { findings: [], notes: [] }
  try {
    await look(url, services, examination)
  } catch (error) {
    if (!(error instanceof UnfitSession))
      throw new DatabaseUnreachable(databaseProblem(error, setting), { cause: error })
    examination.findings.push({
      about: 'the database',
      found: error.message,
      expected: 'a session that services can use',
      advice: `do what is said there, or give another address in ${setting}`
    })
    examination.notes.push('Schemas were not looked at')
  }
  return examination
}

async function look(
  url: string,
  services: readonly ServiceDefinition[],
  { findings, notes }: Examination
): Promise<void> {
  const [first] = services
  if (!first) return
  const about = placeOf(DatabaseServer.at(url).address.hosts[0]!)
  findings.push(...(await poolerFindings(url, about)))
  const client = await connect(url, schemaOf(first).schema)
  try {
    notes.push(await versionOf(client))
    findings.push(...skewOf('the database', await skewSeconds(client)))
    for (const service of services) {
      const examined = await examineSchema(client, service)
      findings.push(...examined.findings)
      notes.push(...examined.notes)
    }
  } finally {
    await client.end()
  }
}

/** As services connect: tried again when a pooler takes no settings with the connection. */
async function connect(url: string, schema: string): Promise<SessionClient> {
  const session = new Session({ url, schema, applicationName: 'sagabox doctor', settings: LIMITS })
  for (;;) {
    const { takesOptions } = session.server
    const client = new SessionClient({ session, connectionTimeoutMillis: CONNECT_MS })
    try {
      await client.connect()
      return client
    } catch (error) {
      if (session.server.takesOptions === takesOptions) throw error
    }
  }
}

/** Whether settings arrive that go with a connection. */
async function poolerFindings(url: string, about: string): Promise<Finding[]> {
  const server = DatabaseServer.at(url)
  const [name, value] = PROBE
  const options = `-c ${name}=${value}`
  const client = new Client({
    ...server.config(await server.find(), options),
    application_name: 'sagabox doctor',
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: CONNECT_MS
  })
  withoutShell(client, options)
  client.on('error', () => {})
  let found: string
  try {
    await client.connect()
    const { rows } = await client.query<{ value: string }>('select current_setting($1) as value', [
      name
    ])
    if (rows[0]!.value === value) return []
    found = `settings that are sent with a connection (options) do not arrive: ${name} is ${rows[0]!.value} instead of ${value}`
  } catch (error) {
    const { message } = error as Error
    if (!/unsupported startup parameter/i.test(message)) throw error
    found = `settings that are sent with a connection (options) are refused: ${message}`
  } finally {
    await client.end().catch(() => {})
  }
  return [
    {
      about: `the way to ${about}`,
      found: `${found}; a connection pooler stands there`,
      expected: 'they arrive',
      advice:
        'nothing is lost: services set them by a statement, one round trip more for each connection. Give the address of the server itself, or have the pooler pass them on'
    }
  ]
}

async function versionOf(client: Client): Promise<string> {
  const { rows } = await client.query<{ version: string }>(
    `select current_setting('server_version') as version`
  )
  return `PostgreSQL ${rows[0]!.version}`
}

/** How far the server's clock is ahead. */
async function skewSeconds(client: Client): Promise<number> {
  let best = { ms: Infinity, skew: 0 }
  for (let looks = 0; looks < CLOCK_LOOKS; looks++) {
    const before = Date.now()
    const { rows } = await client.query<{ now: number }>(
      'select extract(epoch from clock_timestamp())::float8 * 1000 as now'
    )
    const after = Date.now()
    if (after - before < best.ms)
      best = { ms: after - before, skew: rows[0]!.now - (before + after) / 2 }
  }
  return best.skew / 1000
}

async function examineSchema(client: Client, service: ServiceDefinition): Promise<Examination> {
  const { schema, migrations } = schemaOf(service)
  const about = `schema ${schema}`
  const steps = stepsOf(migrations)
  const recorded = (await readRecords(client, schema))?.applied
  if (!recorded)
    return {
      findings: [
        {
          about,
          found: 'it was never migrated',
          expected: `the tables of the service ${service.name}`,
          advice: 'sagabox migrate makes it, or start the service, which does the same'
        }
      ],
      notes: []
    }
  const findings = [
    ...recordFindings(about, steps, recorded),
    ...(await letterFindings(client, schema, service))
  ]
  const ran = new Set(recorded.map(({ id }) => id))
  const isSame = steps.every(({ id }) => ran.has(id)) && ran.size === steps.length
  if (!isSame)
    return { findings, notes: [`${about}: not compared, because its migrations are others`] }
  const drift = await driftOf(client, schema, steps)
  if (typeof drift === 'string')
    return { findings, notes: [`${about}: not compared with its migrations: ${drift}`] }
  return { findings: [...findings, ...driftFindings(about, drift)], notes: [] }
}

function recordFindings(
  about: string,
  steps: readonly MigrationStep[],
  recorded: readonly Applied[]
): Finding[] {
  const ran = new Map(recorded.map(({ id, checksum }) => [id, checksum]))
  const pending = steps.flatMap(({ id }) => (ran.has(id) ? [] : [id]))
  const unknown = [...ran.keys()].filter((id) => steps.every((step) => step.id !== id))
  const edited = steps.filter(({ id, checksum }) => (ran.get(id) ?? checksum) !== checksum)
  return [
    ...edited.map(({ id, checksum, source }) => ({
      about,
      found: `the migration ${id} was edited after it ran: ${source} has the checksum ${checksum}, and ${ran.get(id)} ran`,
      expected: 'the text that ran',
      advice: 'put the text back, and write what is to change as a new migration'
    })),
    ...(pending.length === 0
      ? []
      : [
          {
            about,
            found: `migrations were not run: ${pending.join(', ')}`,
            expected: 'all of this version',
            advice: 'sagabox migrate runs them, or start the service, which does the same'
          }
        ]),
    ...(unknown.length === 0
      ? []
      : [
          {
            about,
            found: `migrations were run that are not here: ${unknown.join(', ')}`,
            expected: 'those of this version',
            advice:
              'fine while a newer version is being deployed or was taken back; else look from the newer version'
          }
        ])
  ]
}

async function letterFindings(
  client: Client,
  schema: string,
  { name }: ServiceDefinition
): Promise<Finding[]> {
  const table = `${client.escapeIdentifier(schema)}.dead_letter`
  const { rows } = await client.query<{ count: number }>(
    `select count(*)::integer as count
    from (select from ${table} where status = 'waiting' limit 100000) as waiting`
  )
  const { count } = rows[0]!
  if (count === 0) return []
  return [
    {
      about: `dead letters of ${name}`,
      found: `${count === 100_000 ? 'at least ' : ''}${count} wait`,
      expected: 'none',
      advice: `look at them by sagabox letters groups --service ${name}`
    }
  ]
}

/**
 * How a schema differs from what its migrations make. They are run in a schema of another name, in
 * a transaction that is taken back.
 * @returns a sentence when they cannot be run there
 */
async function driftOf(
  client: Client,
  schema: string,
  steps: readonly MigrationStep[]
): Promise<Drift | string> {
  const fresh = `sagabox_doctor_${randomBytes(6).toString('hex')}`
  await client.query('begin')
  try {
    await client.query(`create schema ${fresh}; set local search_path to ${fresh}`)
    for (const { id, run } of steps)
      await run(client).catch((error: Error) => {
        throw new Error(`${id}: ${error.message}`, { cause: error })
      })
    const expected = await readCatalog(client, fresh)
    await client.query(`set local search_path to ${client.escapeIdentifier(schema)}`)
    return compareCatalogs(expected, await readCatalog(client, schema))
  } catch (error) {
    return (error as Error).message
  } finally {
    await client.query('rollback')
  }
}

function driftFindings(about: string, { missing, different, refusing }: Drift): Finding[] {
  const called = ({ kind, table, name }: Part) =>
    `${kind} ${table === null || kind === 'index' ? name : `${table}.${name}`}`
  return [
    ...missing.map((part) => ({
      about,
      found: `the ${called(part)} is missing`,
      expected: part.kind === 'table' ? 'it is there' : part.definition,
      advice:
        part.kind === 'index'
          ? `make it: ${part.definition}`
          : 'make it as the migrations do, or bring back a backup: somebody has taken it away'
    })),
    ...different.map(({ expected, found }) => ({
      about,
      found: `the ${called(found)} is ${found.definition}`,
      expected: expected.definition,
      advice: found.definition.endsWith('(invalid)')
        ? `it was not built to its end: reindex index concurrently ${found.name}`
        : 'change it to what is expected: somebody has changed it'
    })),
    ...refusing.map((part) => ({
      about,
      found: `the ${called(part)}, which no migration has made: ${part.definition}`,
      expected: 'nothing that may refuse rows of the services',
      advice: 'put it into a migration, or take it away'
    }))
  ]
}
