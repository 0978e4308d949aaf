import { writeFile } from 'node:fs/promises'
import { MigrationEdited, MigrationFailed, UnfitSession, type ServiceDefinition } from '../index.ts'
import { isServersOwn } from '../messaging/errors/database-away.ts'
import {
  migrate,
  migrationScript,
  planMigrations,
  type MigrateOptions
} from '../messaging/postgres/migrate.ts'
import { readMigrations, type Migration } from '../messaging/postgres/migrations.ts'
import { databaseProblem } from '../messaging/postgres/problem.ts'
import { schemaOf } from '../service/migrations.ts'
import { APP_OPTION, loadServices } from './app-module.ts'
import {
  EXIT,
  NotDone,
  NotReachable,
  WrongUsage,
  type Call,
  type Command,
  type Exit,
  type Group
} from './command.ts'
import { databasesOf } from './databases.ts'
import { nearest } from './nearest.ts'
import type { Terminal } from './terminal.ts'
import { clean } from './text.ts'

/** While one migration runs, it is said so often that it does, ms. */
const STILL_MS = 10_000
/** At most one of them can be asked for. */
const WAYS = ['plan', 'sql', 'to'] as const

const command: Command = {
  summary:
    'Make the schemas of your services and run their pending migrations, forward only, one process ' +
    'at a time; a service with MIGRATE=check then starts as a role that may only read and write. ' +
    'DATABASE_URL (or <SERVICE>_DATABASE_URL) says where, and by which role',
  options: {
    plan: { help: 'only say what is pending; 1 when anything is, or was edited after it ran' },
    sql: { value: 'FILE', help: 'only write what would be run, as a script for psql' },
    to: { value: 'ID', help: 'run them up to this one; never back' },
    ...APP_OPTION
  },
  async run(call) {
    const [first, second] = WAYS.filter((way) => call.options.has(way))
    if (second) throw new WrongUsage(`--${first} and --${second} are given; expected one of them`)
    const schemas = await schemasOf(call)
    const planned = await planAll(schemas)
    if (first === 'plan') return tellPlan(planned, call)
    const edited = planned.find((plan) => plan.edited !== undefined)?.edited
    if (edited !== undefined) throw new NotDone(edited)
    const file = call.options.text('sql')
    if (file !== undefined) return writeScript(file, planned, call)
    return migrateAll(planned, call)
  }
}

export const group: Group = { '': command }

/** The schema of a service, and the way to it. */
interface Schema {
  service: string
  options: MigrateOptions
  migrations: readonly Migration[]
  /** The environment variable that holds the URL. */
  setting: string
}

interface Plan extends Schema {
  pending: readonly Migration[]
  /** Run by a newer build. */
  unknown: readonly string[]
  /** What was edited after it ran: nothing else is known then. */
  edited?: string
}

async function schemasOf(call: Call): Promise<Schema[]> {
  const app = await loadServices(call)
  await app.running?.stop()
  return [...databasesOf(app, call)].flatMap(([url, { services, setting }]) =>
    services.map((service) => schemaAt(url, service, setting, call.terminal))
  )
}

function schemaAt(
  url: string,
  service: ServiceDefinition,
  setting: string,
  terminal: Terminal
): Schema {
  const { schema, migrations: sources } = schemaOf(service)
  const options: MigrateOptions = {
    url,
    schema,
    migrations: sources,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    signal: terminal.interrupted
  }
  try {
    return { service: service.name, options, migrations: readMigrations(sources), setting }
  } catch (error) {
    throw new NotDone((error as Error).message, { cause: error })
  }
}

/** All of them before anything is run: an edited one of the last service stops the first, too. */
async function planAll(schemas: readonly Schema[]): Promise<Plan[]> {
  const planned: Plan[] = []
  for (const schema of schemas) {
    try {
      planned.push({ ...schema, ...(await planMigrations(schema.options)) })
    } catch (error) {
      if (!(error instanceof MigrationEdited)) throw explained(error, schema)
      planned.push({ ...schema, pending: [], unknown: [], edited: error.message })
    }
  }
  return planned
}

function tellPlan(planned: readonly Plan[], { options, terminal }: Call): Exit {
  if (options.has('json'))
    terminal.json(
      planned.map(({ service, options: { schema }, pending, unknown, edited }) => ({
        service,
        schema,
        pending: pending.map(({ id }) => id),
        unknown,
        ...(edited !== undefined && { edited })
      }))
    )
  else terminal.print(...planned.flatMap(describe).map(clean))
  return planned.some(({ pending, edited }) => pending.length > 0 || edited !== undefined)
    ? EXIT.found
    : EXIT.ok
}

function describe({ options: { schema }, pending, unknown, edited }: Plan): string[] {
  if (edited !== undefined) return [`${schema}: ${edited}`]
  return [
    pending.length === 0 ? `${schema}: nothing pending` : `${schema}: ${pending.length} pending`,
    ...pending.map(({ id }) => `  ${id}`),
    ...(unknown.length === 0
      ? []
      : [`  run before by a newer build, and not known to this one: ${unknown.join(', ')}`])
  ]
}

/** One script a database: psql runs it there. */
async function writeScript(
  file: string,
  planned: readonly Plan[],
  { options, terminal }: Call
): Promise<Exit> {
  if (new Set(planned.map(({ options: { url } }) => url)).size > 1)
    throw new WrongUsage(
      `--sql writes a script for one database, and the services have several (${[...new Set(planned.map(({ setting }) => setting))].join(', ')}); expected --app FILE that exports the services of one`
    )
  const scripts: string[] = []
  for (const plan of planned)
    scripts.push(
      await migrationScript(plan.options).catch((error: unknown) => {
        throw explained(error, plan)
      })
    )
  await writeFile(file, scripts.join('\n')).catch((error: Error) => {
    throw new NotReachable(`${file} cannot be written: ${error.message}`, { cause: error })
  })
  const written = planned.map(({ service, options: { schema }, pending }) => ({
    service,
    schema,
    pending: pending.map(({ id }) => id)
  }))
  if (options.has('json')) terminal.json({ file, schemas: written })
  else
    terminal.print(
      ...written.map(({ schema, pending }) => clean(`${schema}: ${pending.length} pending`)),
      `Written: psql --file ${clean(file)} runs it, for the database as it is now`
    )
  return EXIT.ok
}

async function migrateAll(planned: readonly Plan[], { options, terminal }: Call): Promise<Exit> {
  const to = options.text('to')
  if (to !== undefined) mustBeKnown(to, planned)
  const done: { service: string; schema: string; ran: string[]; left: string[] }[] = []
  for (const plan of planned) {
    const { service, migrations, pending, unknown } = plan
    const { schema } = plan.options
    if (unknown.length > 0)
      terminal.note(
        clean(`${schema}: this build is older than the database (${unknown.join(', ')})`)
      )
    const isMeant = to === undefined || migrations.some(({ id }) => id === to)
    const ran = isMeant ? await migrateOne(plan, to, terminal) : []
    const left = pending.flatMap(({ id }) => (ran.includes(id) ? [] : [id]))
    done.push({ service, schema, ran, left })
    if (!options.has('json'))
      terminal.print(
        clean(
          `${schema}: ${ran.length === 0 ? 'nothing run' : `${ran.length} run`}, ${left.length} pending`
        )
      )
  }
  if (options.has('json')) terminal.json(done)
  return terminal.interrupted.aborted ? EXIT.found : EXIT.ok
}

function mustBeKnown(to: string, planned: readonly Plan[]): void {
  const ids = planned.flatMap(({ migrations }) => migrations.map(({ id }) => id))
  if (ids.includes(to)) return
  const near = nearest(to, ids)
  throw new WrongUsage(
    `there is no migration ${to}; ${near === undefined ? '--plan has those that are pending' : `${near} is one`}`
  )
}

async function migrateOne(
  plan: Plan,
  to: string | undefined,
  terminal: Terminal
): Promise<string[]> {
  const { schema } = plan.options
  let beginning = performance.now()
  let running: string | undefined
  const still = setInterval(() => {
    const seconds = Math.round((performance.now() - beginning) / 1000)
    terminal.note(
      clean(
        running === undefined
          ? `${schema}: waiting for another process that migrates it, ${seconds} s`
          : `${schema}: ${running} still runs, ${seconds} s`
      )
    )
  }, STILL_MS)
  const finishing = () => {
    if (running !== undefined)
      terminal.note('Stopping after the one that runs; Ctrl-C again takes that one back')
  }
  terminal.interrupted.addEventListener('abort', finishing)
  try {
    return await migrate(
      {
        ...plan.options,
        began({ id }) {
          beginning = performance.now()
          running = id
          terminal.note(clean(`${schema}: ${id}`))
        }
      },
      to
    )
  } catch (error) {
    throw explained(error, plan)
  } finally {
    clearInterval(still)
    terminal.interrupted.removeEventListener('abort', finishing)
  }
}

/** Whether nobody answered, or the answer was no. */
function explained(error: unknown, { setting, options }: Schema): Error {
  const said = `${options.schema}: ${databaseProblem(error, setting)}`
  if (error instanceof UnfitSession || error instanceof MigrationEdited)
    return new NotDone(said, { cause: error })
  const isAway = isServersOwn(error instanceof MigrationFailed ? error.cause : error)
  return isAway ? new NotReachable(said, { cause: error }) : new NotDone(said, { cause: error })
}
