import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../packages/sagabox/src/embedded/postgres.ts'

export interface TestServer {
  /** The database of a server that is there for this process, or this test run, alone. */
  url: string
  /** Creates an empty database; the name only helps to recognise it. */
  createDatabase(name?: string): Promise<string>
}

/** The server of a test run. */
export interface SharedServer extends TestServer {
  /**
   * Creates a database that holds the tables of all services: a copy, see template.ts; an empty one
   * where there is none.
   */
  createShop(): Promise<string>
}

export interface PrivatePostgres extends TestServer {
  /** SIGKILL of the server, which takes its connections with it. */
  kill(): Promise<void>
  /** Starts it again (killing it first when it runs) with the same data on the same port. */
  restart(): Promise<void>
  /** Stops it and deletes its data. */
  stop(): Promise<void>
}

/** Starts a private server with data that lasts until it is stopped. */
export async function startPostgres(): Promise<PrivatePostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), 'sagabox-postgres-'))
  // As root, the server runs as another user, who has to pass here.
  await chmod(dataDir, 0o711)
  const remove = () => rm(dataDir, { recursive: true, force: true })
  const log = { info() {}, error: console.error }
  try {
    let server = await startEmbeddedPostgres({ dataDir, log })
    const { url } = server
    // Survives kill -9 of any process, and no test can pull the plug.
    await query(
      url,
      'alter system set fsync = off',
      'alter system set full_page_writes = off',
      'select pg_reload_conf()'
    )
    let killed = false
    async function kill() {
      if (killed) return
      killed = true
      log.error = () => {}
      process.kill(
        Number.parseInt(await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8'), 10),
        'SIGKILL'
      )
      await server.endedByItself
      log.error = console.error
      // Of a server that has ended, only its folder is left to be released.
      await server.stop()
    }
    return {
      url,
      createDatabase: (name) => createDatabase(url, name),
      kill,
      async restart() {
        await kill()
        server = await startEmbeddedPostgres({
          dataDir,
          log,
          choosePort: async () => Number(new URL(url).port)
        })
        killed = false
      },
      async stop() {
        await server.stop()
        await remove()
      }
    }
  } catch (error) {
    await remove()
    throw error
  }
}

let ours: Promise<string> | undefined

/**
 * The server at `TEST_DATABASE_URL`, which the test run has started; else one that stops when this
 * process has no more to do.
 */
export async function postgresForTests(): Promise<SharedServer> {
  const url = process.env['TEST_DATABASE_URL'] ?? (await (ours ??= startForProcess()))
  return {
    url,
    createDatabase: (name) => createDatabase(url, name),
    createShop: () => createDatabase(url, 'shop', process.env['TEST_DATABASE_TEMPLATE'])
  }
}

/** Creates a database at the server of another: empty, or a copy. */
export async function createDatabase(
  url: string,
  name = 'test',
  template = 'template1'
): Promise<string> {
  const unique = `${name.toLowerCase().replace(/\W+/g, '_').slice(0, 40)}_${randomBytes(6).toString('hex')}`
  await query(url, `create database ${unique} template ${template}`)
  const database = new URL(url)
  database.pathname = `/${unique}`
  return database.href
}

async function startForProcess(): Promise<string> {
  const server = await startPostgres()
  process.once('beforeExit', () => void server.stop())
  return server.url
}

async function query(url: string, ...statements: string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    for (const statement of statements) await client.query(statement)
  } finally {
    await client.end()
  }
}
