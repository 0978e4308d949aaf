import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, copyFile, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { openFolder } from '../../packages/sagabox/src/embedded/data.ts'
import { findPostgres } from '../../packages/sagabox/src/embedded/programs.ts'
import { startEmbeddedPostgres } from '../../packages/sagabox/src/embedded/postgres.ts'
import { until } from './until.ts'
import { createDatabase, type TestServer } from './postgres.ts'

/** The authority that signed the standby's certificate, which is for `localhost`. */
export const TEST_CA = fileURLToPath(new URL('tls/ca.pem', import.meta.url))

export interface Standby {
  /** Its database, over TCP. */
  url: string
  /** The folder of its socket. */
  socket: string
  /** From now on it takes writes. */
  promote(): Promise<void>
  stop(): Promise<void>
}

/**
 * A server that takes no writes until it is promoted. It listens on a socket too, and speaks TLS.
 */
export async function startStandby(): Promise<Standby> {
  const dataDir = await newFolder('standby')
  const first = await startEmbeddedPostgres({ dataDir, log })
  await first.stop()
  return standbyIn(dataDir, first.url)
}

export interface Pair extends TestServer {
  /**
   * The primary takes no more writes, and keeps its sessions; the standby takes them. Nothing that
   * was confirmed is lost.
   */
  switchOver(): Promise<void>
  /** The URL of a database, at the server that was the standby. */
  atStandby(databaseUrl: string): string
  /** The old primary ends, and its sessions with it. */
  retire(): Promise<void>
  stop(): Promise<void>
}

/** A primary, and a standby that has every commit before it is confirmed. */
export async function startPair(): Promise<Pair> {
  const dataDir = await newFolder('primary')
  const first = await startEmbeddedPostgres({ dataDir, log })
  await query(first.url, 'alter system set fsync = off')
  await first.stop()
  const copy = await newFolder('standby')
  await cp(dataDir, copy, { recursive: true })
  const primary = await startEmbeddedPostgres({ dataDir, log })
  const { url } = primary
  const settings = ['-c', `primary_conninfo=${url}`]
  const standby = await standbyIn(copy, url, settings)
  await query(url, "alter system set synchronous_standby_names = '*'")
  await query(url, 'select pg_reload_conf()')
  await until('commits wait for the standby', () => found(url, IS_SYNCHRONOUS))
  return {
    url,
    createDatabase: (name) => createDatabase(url, name),
    atStandby(databaseUrl) {
      const there = new URL(databaseUrl)
      there.port = new URL(standby.url).port
      return there.href
    },
    async switchOver() {
      await query(url, 'alter system set default_transaction_read_only = on')
      await query(url, 'select pg_reload_conf()')
      await until('no more transactions begin that write', () => found(url, IS_READ_ONLY))
      const [{ since }] = await query<{ since: string }>(url, NOW)
      await until('those that had begun have ended', () => found(url, NONE_FROM_BEFORE, [since]))
      await standby.promote()
    },
    retire: () => primary.stop(),
    async stop() {
      await standby.stop()
      await primary.stop()
      await rm(dataDir, { recursive: true, force: true })
    }
  }
}

const NOW = 'select clock_timestamp()::text as since'
const IS_SYNCHRONOUS = `
  select from pg_stat_replication where state = 'streaming' and sync_state = 'sync'`
const IS_READ_ONLY = `select where current_setting('default_transaction_read_only') = 'on'`
const NONE_FROM_BEFORE = `
  select where not exists (
    select from pg_stat_activity
    where backend_type = 'client backend' and xact_start < $1::timestamptz)`

const log = { info() {}, error: console.error }

/** Also another user, whom the server runs as when we are root, can pass. */
async function newFolder(name: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `sagabox-${name}-`))
  await chmod(folder, 0o711)
  return folder
}

/** @param firstUrl of the server whose data it is, or was copied from */
async function standbyIn(
  dataDir: string,
  firstUrl: string,
  settings: string[] = []
): Promise<Standby> {
  const folder = await openFolder(dataDir)
  const data = join(folder, 'postgres')
  const programs = await findPostgres(folder, data, log)
  for (const name of ['server.pem', 'server.key']) {
    await copyFile(fileURLToPath(new URL(`tls/${name}`, import.meta.url)), join(data, name))
    await chmod(join(data, name), 0o600)
    await programs.give(join(data, name))
  }
  await writeFile(join(data, 'standby.signal'), '')
  await programs.give(join(data, 'standby.signal'))
  const socket = join(folder, 'socket')
  await mkdir(socket)
  await programs.give(socket)
  const url = new URL(firstUrl)
  url.port = String(await freePort())
  const { file, args, options } = programs.command('postgres', [
    '-D',
    data,
    '-p',
    url.port,
    '-c',
    'listen_addresses=127.0.0.1',
    '-c',
    `unix_socket_directories=${socket}`,
    '-c',
    'ssl=on',
    '-c',
    'ssl_cert_file=server.pem',
    '-c',
    'ssl_key_file=server.key',
    // No fewer than the server has that it is a copy of.
    '-c',
    'max_connections=300',
    ...settings
  ])
  const server = spawn(file, args, { ...options, stdio: 'ignore' })
  await until('the standby answers', () =>
    query(url.href, 'select 1').then(
      () => true,
      () => false
    )
  )
  return {
    url: url.href,
    socket,
    async promote() {
      await query(url.href, 'select pg_promote()')
    },
    async stop() {
      server.kill('SIGINT')
      await once(server, 'exit')
      await rm(dataDir, { recursive: true, force: true })
    }
  }
}

async function found(url: string, text: string, values: unknown[] = []): Promise<boolean> {
  return (await query(url, text, values)).length === 1
}

async function query<Row>(
  url: string,
  text: string,
  values: unknown[] = []
): Promise<[Row, ...Row[]]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(text, values)).rows as [Row, ...Row[]]
  } finally {
    await client.end()
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
