import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, open, readFile, rename, stat, truncate, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { CannotStart } from '../cannot-start.ts'
import { openFolder, prepareData, roomIn, USER } from './data.ts'
import { lockFolder, processInfo } from './lock.ts'
import { withoutShell } from '../messaging/postgres/without-shell.ts'
import { findPostgres, type PostgresPrograms } from './programs.ts'

const DATABASE = 'sagabox'
/** The server's log is begun anew when it is larger than this, bytes. */
const LARGEST_LOG = 10 * 2 ** 20
const LOOK_AT_LOG_MS = 60_000
const ATTEMPTS = 5

/** Is told what the server does; pino's logger is one. */
export interface ServerLog {
  info(message: string): void
  error(message: string): void
}

/** Where the data is, and who is told. */
export interface EmbeddedPostgresOptions {
  /** Everything the server keeps goes here; created when missing. */
  dataDir: string
  log: ServerLog
  /** Chooses the port to listen on; by default one that is free now. */
  choosePort?(): Promise<number>
}

/** A PostgreSQL that runs beside this process. */
export interface EmbeddedPostgres {
  /** Where the database is, with user and password. The port is another one after each start. */
  readonly url: string
  /** Resolves with the reason when the server ends without stop(). */
  readonly endedByItself: Promise<string>
  /**
   * Stops the server, within 10 seconds unless it hangs, and releases the folder. Further calls
   * wait for the first.
   */
  stop(): Promise<void>
}

/**
 * Starts a PostgreSQL server of our own with durable data in a folder, and creates the database
 * `sagabox` in it.
 *
 * The server is in its own process group, so that Ctrl-C reaches us alone and we stop it when we
 * are done. It does not keep this process alive. When this process is killed, the server stays; the
 * next start on the folder stops it first.
 * @throws {FolderInUseError} when another Sagabox uses the folder
 * @throws {CannotStart} when the folder cannot be used by this user, PostgreSQL has no binaries
 * here or cannot reach them, or the server does not start: then with the last lines of its log
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions
): Promise<EmbeddedPostgres> {
  const folder = await openFolder(options.dataDir)
  const unlock = await lockFolder(folder).catch((error: unknown) => sayWhy(error, folder))
  try {
    const data = join(folder, 'postgres')
    const programs = await findPostgres(folder, data, options.log)
    const password = await prepareData(folder, data, programs, options.log)
    return await startServer({ ...options, folder, data, programs, password, unlock })
  } catch (error) {
    await unlock()
    return sayWhy(error, folder)
  }
}

/** What the operating system or a program of PostgreSQL said, as a sentence about the folder. */
async function sayWhy(error: unknown, folder: string): Promise<never> {
  if (!(error instanceof Error) || error instanceof CannotStart || error.constructor !== Error)
    throw error
  const said = (error as { stderr?: string }).stderr?.trim() || error.message
  throw new CannotStart(
    `DATA_DIR: PostgreSQL cannot be set up in ${folder}${await roomIn(folder)}\n${said}`,
    { cause: error }
  )
}

interface Prepared extends EmbeddedPostgresOptions {
  folder: string
  data: string
  programs: PostgresPrograms
  password: string
  unlock(): Promise<void>
}

async function startServer(prepared: Prepared): Promise<EmbeddedPostgres> {
  const { folder, data, programs, password, log, choosePort = freePort } = prepared
  const logFile = join(folder, 'postgres.log')
  // One earlier log is kept: the one that tells why the server had to be started again.
  await rename(logFile, `${logFile}.1`).catch(() => {})

  for (let attempt = 1; ; attempt++) {
    await stopOrphan(data, log)
    const port = await choosePort()
    const server = await launch(programs, data, port, logFile)
    const urlOf = (database: string) =>
      `postgres://${USER}:${password}@127.0.0.1:${port}/${database}`
    try {
      await ready(server, data)
      await createDatabase(urlOf('postgres'))
    } catch (cause) {
      await shutDown((signal) => server.kill(signal), ended(server))
      const lastLines = await tail(logFile)
      // Somebody took the port since we looked, or a server of a killed start came up since we
      // looked.
      const again =
        /could not create any TCP\/IP sockets|lock file "postmaster.pid" already exists/.test(
          lastLines
        )
      if (again && attempt < ATTEMPTS) continue
      throw new CannotStart(
        `PostgreSQL in ${data} did not start: ${(cause as Error).message}${await roomIn(folder)}\n${lastLines}`,
        { cause }
      )
    }
    return running(server, urlOf(DATABASE), logFile, prepared)
  }
}

/**
 * Stops the server that a killed Sagabox left on this data. The caller holds the folder's lock, so
 * it is nobody's. A new server does not simply use it: its programs may be of another version and
 * its log goes elsewhere.
 */
async function stopOrphan(data: string, log: ServerLog): Promise<void> {
  const pidFile = join(data, 'postmaster.pid')
  const text = await readFile(pidFile, 'utf8').catch(() => undefined)
  const pid = Number.parseInt(text ?? '', 10)
  if (!text || !(pid > 0)) return
  const isServer = async () => {
    const command = (await processInfo(pid))?.command ?? ''
    return /(^|\/)postgres /.test(command) && command.includes(` -D ${data} `)
  }
  if (await isServer()) {
    log.info(`Stopping the PostgreSQL server (process ${pid}) that an earlier Sagabox left behind`)
    await shutDown(
      (signal) => process.kill(pid, signal),
      until(async () => !(await isServer()))
    )
  } else if (alive(pid)) {
    // Another process got the pid. PostgreSQL would refuse to start, but takes its parent's pid for
    // a stale one, and then still looks for survivors of the old server by their shared memory,
    // which it could not without this file.
    await writeFile(pidFile, text.replace(/^\d+/, `${process.pid}`))
  }
}

async function launch(
  programs: PostgresPrograms,
  data: string,
  port: number,
  logFile: string
): Promise<ChildProcess> {
  const { file, args, options } = programs.command('postgres', [
    '-D',
    data,
    '-p',
    `${port}`,
    '-c',
    'listen_addresses=127.0.0.1',
    // A socket's path may have 107 bytes only, and nobody needs one.
    '-c',
    'unix_socket_directories=',
    // As much again as the default of 128 MB: a small system's tables and indexes stay in memory.
    '-c',
    'shared_buffers=256MB',
    // Room for some processes with a pool a service, and for somebody who looks around: 100 were too
    // few for test suites side by side.
    '-c',
    'max_connections=300',
    '-c',
    'timezone=UTC',
    '-c',
    'log_timezone=UTC',
    // A line every five minutes, for nobody.
    '-c',
    'log_checkpoints=off'
  ])
  await writeFile(logFile, '', { mode: 0o600 })
  // Appends, so that the log can be cut while the server writes to it.
  const output = await open(logFile, 'a', 0o600)
  try {
    const server = spawn(file, args, {
      ...options,
      detached: true,
      windowsHide: true,
      stdio: ['ignore', output.fd, output.fd]
    })
    await once(server, 'spawn')
    return server
  } finally {
    await output.close()
  }
}

/**
 * Waits until the server takes connections, however long its recovery after a crash takes. Its own
 * word is taken for it, not an answer at the port: that may be another program's, which had the
 * port first.
 */
async function ready(server: ChildProcess, data: string): Promise<void> {
  await until(async () => {
    if (hasEnded(server)) throw new Error('it ended at once')
    const lines = (await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
    return Number(lines[0]) === server.pid && lines[7]?.trim() === 'ready'
  })
}

async function createDatabase(url: string): Promise<void> {
  // What is not said, pg would take from the shell's PG… variables.
  const client = new pg.Client({ connectionString: url, ssl: false, sslnegotiation: 'postgres' })
  withoutShell(client)
  client.on('error', () => {})
  await client.connect()
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [
      DATABASE
    ])
    if (!rowCount) await client.query(`create database ${DATABASE}`)
  } finally {
    await client.end()
  }
}

function running(
  server: ChildProcess,
  url: string,
  logFile: string,
  { data, log, unlock }: Prepared
): EmbeddedPostgres {
  let stopped: Promise<void> | undefined
  // Also when the application crashes or calls exit, the server ends: by itself, as nobody can wait
  // for it then.
  const onExit = () => server.kill('SIGINT')
  process.once('exit', onExit)
  const looking = setInterval(() => void limitLog(logFile).catch(() => {}), LOOK_AT_LOG_MS).unref()
  const endedByItself = ended(server).then(async () => {
    clearInterval(looking)
    process.off('exit', onExit)
    if (stopped) return new Promise<never>(() => {})
    const reason = `PostgreSQL in ${data} ended by itself (${server.signalCode ?? `exit code ${server.exitCode}`})`
    log.error(`${reason}. Its last words:\n${await tail(logFile)}`)
    return reason
  })
  server.unref()
  return {
    url,
    endedByItself,
    stop: () =>
      (stopped ??= (async () => {
        server.ref()
        await shutDown((signal) => server.kill(signal), ended(server))
        await unlock()
      })())
  }
}

/**
 * Puts a log that has grown large aside, in place of the one before, and has the server go on with
 * an empty one. Lines written in between are lost.
 */
export async function limitLog(logFile: string, largest = LARGEST_LOG): Promise<void> {
  const { size } = await stat(logFile)
  if (size <= largest) return
  await copyFile(logFile, `${logFile}.1`)
  await truncate(logFile)
}

/**
 * Fast shutdown: clients are cut off, transactions rolled back, data written. After 10 seconds
 * without the last.
 */
async function shutDown(
  kill: (signal: NodeJS.Signals) => void,
  gone: Promise<unknown>
): Promise<void> {
  const signal = (name: NodeJS.Signals) => {
    try {
      kill(name)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  signal('SIGINT')
  const timer = setTimeout(signal, 10_000, 'SIGQUIT')
  await gone.finally(() => clearTimeout(timer))
}

const hasEnded = (server: ChildProcess) => server.exitCode !== null || server.signalCode !== null

const ended = async (server: ChildProcess) => hasEnded(server) || once(server, 'exit')

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(20)
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function tail(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => `(${basename(file)} cannot be read)`)
  return text.trimEnd().split('\n').slice(-10).join('\n')
}
