import { Client, escapeIdentifier, type ClientConfig } from 'pg'
import { DatabaseServer, placeOf, UnfitSession } from './server.ts'
import { withoutShell } from './without-shell.ts'
import type { Outage } from './outage.ts'

/** The oldest PostgreSQL whose settings are the ones that are looked at. */
const OLDEST_VERSION = 140_000

/**
 * What reading and writing depend on, whatever `alter database … set` and `alter role … set` say.
 * As PostgreSQL shows them.
 */
const PINNED: Record<string, string> = {
  client_encoding: 'UTF8',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '1',
  bytea_output: 'hex',
  standard_conforming_strings: 'on',
  array_nulls: 'on',
  transform_null_equals: 'off',
  // A policy that hides rows is an error then, and nothing that is missed in silence.
  row_security: 'off',
  default_transaction_isolation: 'read committed',
  default_transaction_deferrable: 'off',
  // Statements keep the plan of their first runs: one made for a table that was still small would
  // read all of it for ever.
  // A bitmap scan does not learn which index entries are dead.
  enable_seqscan: 'off',
  enable_bitmapscan: 'off'
}

/** Not known to every version, or only a superuser may set it: said only where it is otherwise. */
const MENDED: Record<string, string> = {
  idle_session_timeout: '0',
  transaction_timeout: '0',
  session_replication_role: 'origin',
  synchronous_commit: 'on'
}

/**
 * A peer that vanished is noticed in seconds, so that its locks (the relay's lead among them) do
 * not outlive it by hours. Without effect on a socket.
 */
const KEEPALIVES: Record<string, string> = {
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3'
}

/**
 * The answer says that the session, or what it knows of the database, is not what it was:
 * read-only, shut down, out of something, rights and tables gone, prepared statements stale.
 */
const UNFIT_CODES = /^(25006|57P..|53...|08...|XX...|26000|42P05|42P01|3F000|42501)$/
/**
 * Where PostgreSQL finds a prepared statement stale, after a table has changed: its words depend on
 * lc_messages.
 */
const STALE_PLAN = 'RevalidateCachedQuery'

// Comments may stand before a command.
const START = String.raw`(?:^|;)(?:\s|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*`
/**
 * What outlives the transaction in which it is said. Told by the text: what is taken for it in vain
 * costs one connection.
 */
const LEAVES_SOMETHING = new RegExp(
  [
    String.raw`${START}(?:set(?!\s+(?:local|transaction|constraints)\b)|reset|discard|listen|load|do)\b`,
    String.raw`${START}prepare(?!\s+transaction\b)\b`,
    String.raw`\bset_config\s*\((?![^)]*\btrue\s*\))`,
    String.raw`\bpg_(?:try_)?advisory_lock(?:_shared)?\s*\(`,
    String.raw`\bwith\s+hold\b`,
    String.raw`\b(?:create|into)\s+(?:(?:global|local)\s+)?temp(?:orary)?\b(?!.*\bon\s+commit\s+drop\b)`
  ].join('|'),
  'is'
)

export interface SessionOptions {
  url: string
  /** Where statements find their tables without naming it. */
  schema: string
  applicationName: string
  /** Limits and other settings, as PostgreSQL shows them: `5s`, not `5000`. */
  settings: Record<string, string>
  /** Told when a connection is lost, cannot be made, or is there again. */
  outage?: Outage
}

/** What a connection has to be before it is used. */
export class Session {
  readonly server: DatabaseServer
  readonly applicationName: string
  readonly outage: Outage | undefined
  /** Name -> value, as PostgreSQL shows it. */
  readonly pinned: Record<string, string>
  /**
   * By name in lower case, which is how they are compared with what the server reports by itself.
   */
  readonly reported: ReadonlyMap<string, string>

  /** @throws {DatabaseUrlError} */
  constructor({ url, schema, applicationName, settings, outage }: SessionOptions) {
    this.server = DatabaseServer.at(url)
    this.applicationName = this.server.address.applicationName ?? applicationName
    this.outage = outage
    const limits = {
      statement_timeout: '0',
      lock_timeout: '0',
      idle_in_transaction_session_timeout: '0'
    }
    const path = /^[a-z_][a-z0-9_]*$/.test(schema) ? schema : escapeIdentifier(schema)
    this.pinned = { search_path: path, ...PINNED, ...limits, ...settings }
    const wanted = { ...this.pinned, in_hot_standby: 'off', default_transaction_read_only: 'off' }
    this.reported = new Map(
      Object.entries(wanted).map(([name, value]) => [name.toLowerCase(), value])
    )
  }

  /** All settings as the connection's `options`. Ours come last: of two, the last counts. */
  get startup(): string {
    const all = [
      ...this.server.address.settings,
      ...Object.entries({ ...KEEPALIVES, ...this.pinned })
    ]
    return all
      .filter(([name]) => name !== 'client_encoding')
      .map(([name, value]) => `-c ${name}=${value.replaceAll(/[\\\s]/g, String.raw`\$&`)}`)
      .join(' ')
  }

  /** Everything about a session that matters, in one row. */
  get look(): string {
    const names = [...Object.keys(this.pinned), ...Object.keys(MENDED)]
    return `select pg_backend_pid() as pid,
      (select extract(epoch from backend_start)::text from pg_stat_get_activity(pg_backend_pid())) as started,
      current_setting('server_version_num')::integer as version, current_setting('server_version') as "versionName",
      current_setting('server_encoding') as encoding, pg_is_in_recovery() as replica,
      current_setting('transaction_read_only') as "readOnly",
      json_build_object(${names.map((name) => `'${name}', current_setting('${name}', true)`).join(', ')}) as settings`
  }
}

interface Look {
  pid: number
  started: string
  version: number
  versionName: string
  encoding: string
  replica: boolean
  readOnly: string
  settings: Record<string, string | null>
}

export interface SessionConfig extends Pick<
  ClientConfig,
  'pipeline' | 'query_timeout' | 'connectionTimeoutMillis'
> {
  session: Session
}

/** By server process: whose connections these are now. */
const backends = new Map<string, SessionClient>()

/**
 * A connection that checks, before anybody gets it, that the server takes writes and the session
 * has the settings that were asked for; `unfit` says afterwards why nobody may use it again. It
 * emits `outdated` when the server takes no writes any more or a table has changed since statements
 * were prepared: all older sessions have met the same.
 */
export class SessionClient extends Client {
  readonly #session: Session
  #unfit: string | undefined
  /** Settings that are not what was asked for, as the server reports it by itself. */
  readonly #changed = new Map<string, string>()
  #backend = ''

  constructor({ session, pipeline, query_timeout, connectionTimeoutMillis }: SessionConfig) {
    super({
      ...session.server.config(session.server.address.hosts[0]!, session.startup),
      application_name: session.applicationName,
      keepAlive: true,
      ...(pipeline !== undefined && { pipeline }),
      ...(query_timeout !== undefined && { query_timeout }),
      connectionTimeoutMillis:
        session.server.address.connectTimeoutMs ?? connectionTimeoutMillis ?? 3000
    })
    withoutShell(this, session.server.takesOptions ? session.startup : '')
    this.#session = session
    // Between two listeners of its users there is none for a moment: a server that stops just then
    // would end the process.
    this.on('error', () => {})
    this.once('end', () => {
      if (backends.get(this.#backend) === this) backends.delete(this.#backend)
    })
    this.query = ((sent: unknown, ...rest: unknown[]) => {
      const text = typeof sent === 'string' ? sent : (sent as { text?: unknown } | undefined)?.text
      if (typeof text === 'string' && text !== '' && LEAVES_SOMETHING.test(text)) {
        this.distrust('a statement has left something in it')
      }
      return (super.query as (...all: unknown[]) => unknown).call(this, sent, ...rest)
    }) as Client['query']
    this.connection.on(
      'errorMessage',
      ({ code = '', routine }: { code?: string; routine?: string }) => {
        const isOutdated = code === '25006' || routine === STALE_PLAN
        if (!isOutdated && !UNFIT_CODES.test(code)) return
        this.distrust(`it answered ${code}`)
        if (isOutdated) this.emit('outdated')
      }
    )
    this.connection.on('parameterStatus', (report: Report) => {
      const { parameterName, parameterValue } = report
      const name = parameterName.toLowerCase()
      const wanted = session.reported.get(name)
      if (wanted === undefined || wanted === parameterValue) this.#changed.delete(name)
      else this.#changed.set(name, parameterValue)
    })
  }

  /** @throws {UnfitSession} when the session is not what was asked for and cannot be made so */
  override connect(): Promise<Client>
  override connect(callback: (error: Error | null, client?: Client) => void): void
  override connect(
    callback?: (error: Error | null, client?: Client) => void
  ): Promise<Client> | void {
    const opened = this.#open()
    if (!callback) return opened.then(() => this)
    opened.then(() => callback(null, this), callback)
  }

  /** It is not to be used again. */
  distrust(reason: string): void {
    this.#unfit ??= reason
  }

  /**
   * Why it must not be used again by somebody who expects nothing to be left of what was done with
   * it.
   */
  get unfit(): string | undefined {
    if (this.#unfit !== undefined) return this.#unfit
    if (this.getTransactionStatus() !== 'I') return 'a transaction is open in it'
    for (const [name, value] of this.#changed) return `its ${name} is ${value}`
    return undefined
  }

  async #open(): Promise<void> {
    const { server, outage } = this.#session
    try {
      const place = await server.find()
      Object.assign(this, place)
      Object.assign(
        (this as unknown as { connectionParameters: object }).connectionParameters,
        place
      )
      await new Promise<void>((resolve, reject) => {
        super.connect((error: Error | null) => (error ? reject(error) : resolve()))
      })
      await this.#makeFit()
      outage?.connected()
    } catch (error) {
      void this.end()
      const failure = this.#explained(error as Error)
      outage?.lost(failure.message || String(failure))
      throw failure
    }
  }

  #explained(error: Error): Error {
    const { server } = this.#session
    if (!/unsupported startup parameter/i.test(error.message) || !server.takesOptions) return error
    server.takesOptions = false
    return new UnfitSession(
      `${error.message}: a connection pooler takes no session settings with the connection; ` +
        'from now on they are set by a statement',
      { cause: error }
    )
  }

  async #makeFit(): Promise<void> {
    const { server } = this.#session
    const first = await this.#look()
    this.#refuseServer(first)
    await this.#refuseShared(first)
    // Not the process that the server announced: somebody stands between, who may give each
    // transaction another one.
    const isPooled = first.pid !== (this as unknown as { processID: number }).processID
    if (isPooled && server.keepsSession === undefined)
      server.keepsSession = await this.#keepsSession()
    if (isPooled && !server.keepsSession) {
      server.keepsSession = undefined
      throw this.#shared()
    }
    if (this.#wrong(first).length > 0) {
      await this.#set(first)
      const [wrong] = this.#wrong(await this.#look())
      if (wrong) throw this.#without(wrong, 'it was set, and is not kept')
    }
    // What has been set or reported until now is as it was asked for.
    this.#unfit = undefined
    this.#changed.clear()
  }

  async #look(): Promise<Look> {
    const { rows } = await this.query<Look>(this.#session.look)
    return rows[0]!
  }

  #place(): string {
    return placeOf(this)
  }

  #refuseServer({ version, versionName, encoding, replica, readOnly }: Look): void {
    const place = this.#place()
    if (version < OLDEST_VERSION) {
      const oldest = OLDEST_VERSION / 10_000
      throw new UnfitSession(
        `the server at ${place} is PostgreSQL ${versionName}; expected ${oldest} or newer`
      )
    }
    if (encoding !== 'UTF8') {
      throw new UnfitSession(
        `the encoding of the database ${this.database} at ${place} is ${encoding}; expected UTF8: ` +
          `create another one with "create database … encoding 'UTF8' template template0"`
      )
    }
    if (replica) {
      throw new UnfitSession(
        `the server at ${place} is a standby and takes no writes; ` +
          'waiting until it is promoted, or until the address leads to the primary'
      )
    }
    if (readOnly !== 'off') {
      throw new UnfitSession(
        `the database ${this.database} at ${place} is read-only: default_transaction_read_only is ${readOnly}; ` +
          'expected off (look at "alter database", "alter role" and "alter system")'
      )
    }
  }

  /** Two connections that were given one session. */
  async #refuseShared({ pid, started }: Look): Promise<void> {
    this.#backend = `${pid} ${started}`
    const other = backends.get(this.#backend)
    backends.set(this.#backend, this)
    if (!other || other === this) return
    // It may have ended, and its session been given on, without our having heard of it.
    const alive = await other.query('select').then(
      () => true,
      () => false
    )
    if (alive) throw this.#shared()
  }

  /**
   * By a second connection: whether it gets the session of this one while this one rests, or this
   * one another while that one works.
   */
  async #keepsSession(): Promise<boolean> {
    const { server } = this.#session
    const other = new Client({
      ...server.config({ host: this.host, port: this.port }, ''),
      application_name: this.#session.applicationName,
      connectionTimeoutMillis: 3000,
      query_timeout: 3000
    })
    withoutShell(other)
    other.on('error', () => {})
    const pidOf = async (client: Client) =>
      (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid
    try {
      await other.connect()
      const mine = await pidOf(this)
      await other.query('begin')
      const theirs = await pidOf(other)
      if (theirs === mine || (await pidOf(this)) !== mine) return false
      await other.query('commit')
      return (await pidOf(other)) === theirs
    } catch (error) {
      if (/transaction blocks not allowed/.test((error as Error).message)) return false
      throw new UnfitSession(
        `the connection pooler at ${this.#place()} gives no second session: ${(error as Error).message}. ` +
          'Expected room for 12 connections of each service in each process',
        { cause: error }
      )
    } finally {
      await other.end().catch(() => {})
    }
  }

  #shared(): UnfitSession {
    return new UnfitSession(
      `the connection pooler at ${this.#place()} gives each transaction another session (transaction pooling): ` +
        'session settings, prepared statements and locks do not last. ' +
        'Expected a session for each connection: pool_mode=session, or the address of the server itself'
    )
  }

  #wrong({ settings }: Look): Wrong[] {
    const wanted = { ...this.#session.pinned, ...MENDED }
    return Object.entries(wanted).flatMap(([name, expected]) => {
      const found = settings[name] ?? null
      // A version without the setting needs none; of the ways to commit, all but one keep what was
      // answered.
      if (
        found === expected ||
        (found === null && name in MENDED) ||
        (name === 'synchronous_commit' && found !== 'off')
      )
        return []
      return [{ name, found, expected }]
    })
  }

  async #set(look: Look): Promise<void> {
    const { server, pinned } = this.#session
    const wrong = this.#wrong(look)
    const dropped = wrong.some(({ name }) => name in pinned)
    // When ours were dropped on the way, so was the rest.
    const others = dropped ? [...server.address.settings, ...Object.entries(KEEPALIVES)] : []
    const all = new Map([
      ...others,
      ...wrong.map(({ name, expected }) => [name, expected] as const)
    ])
    const calls = [...all].map(
      ([name, value]) =>
        `set_config(${this.escapeLiteral(name)}, ${this.escapeLiteral(value)}, false)`
    )
    await this.query(`select ${calls.join(', ')}`).catch((error: unknown) => {
      throw this.#without(wrong[0]!, (error as Error).message, error)
    })
  }

  #without({ name, found, expected }: Wrong, reason: string, cause?: unknown): UnfitSession {
    const value = found === null ? 'not known' : JSON.stringify(found)
    return new UnfitSession(
      `the setting ${name} of a session at ${this.#place()} is ${value}; ` +
        `expected ${JSON.stringify(expected)} (${reason}). ` +
        'Connect to the server itself, or through a pooler in session mode, with a role that may set it',
      { cause }
    )
  }
}

/** A setting's value, as the server reports it by itself. */
interface Report {
  parameterName: string
  parameterValue: string
}

interface Wrong {
  name: string
  found: string | null
  expected: string
}
