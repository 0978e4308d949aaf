import { Client, type ClientConfig } from 'pg'
import { parseDatabaseUrl, type DatabaseAddress, type DatabaseHost } from './url.ts'
import { withoutShell } from './without-shell.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'

/** How long one of several servers may take to answer, ms. */
const SEARCH_MS = 3000

/**
 * The database answers, and cannot be used as it is: the message says what was found, what was
 * expected and what to do.
 */
export class UnfitSession extends SagaboxError {
  override readonly name = 'UnfitSession'
  override readonly code = 'UNFIT_SESSION'
  /** SQLSTATE "the server rejected the connection": it counts as a database that is away. */
  readonly databaseCode = '08004'
}

/**
 * A database as its URL names it: where it is, and what was found out about the way there. One for
 * all connections of a process.
 */
export class DatabaseServer {
  readonly address: DatabaseAddress
  /** Whether session settings may be sent with the connection: a pooler may refuse them. */
  takesOptions = true
  /** Behind a pooler: whether a connection keeps its session. Undefined: not known yet. */
  keepsSession: boolean | undefined
  /** Which of several took writes last. */
  #latest = 0
  #searching: Promise<DatabaseHost> | undefined

  private constructor(url: string) {
    this.address = parseDatabaseUrl(url)
  }

  static readonly #known = new Map<string, DatabaseServer>()

  /** @throws {DatabaseUrlError} */
  static at(url: string): DatabaseServer {
    const server = this.#known.get(url) ?? new DatabaseServer(url)
    this.#known.set(url, server)
    return server
  }

  /**
   * All that pg needs to connect: it would take what is left out from the shell's PG… variables.
   * Only the password may come from there, when the URL has none.
   */
  config({ host, port }: DatabaseHost, options: string): ClientConfig {
    const { user, password, database, ssl, sslNegotiation, channelBinding } = this.address
    // pg takes an empty text for none.
    const given = options === '' || !this.takesOptions ? {} : { options }
    return {
      host,
      port,
      user,
      database,
      ssl: ssl && { ...ssl },
      sslnegotiation: sslNegotiation,
      enableChannelBinding: channelBinding,
      client_encoding: 'UTF8',
      ...given,
      ...(password !== undefined && { password })
    }
  }

  /**
   * The server that takes writes; a single one is not asked.
   * @throws {UnfitSession} when none of several takes writes, with what each of them said
   */
  find(): Promise<DatabaseHost> | DatabaseHost {
    if (this.address.hosts.length === 1) return this.address.hosts[0]!
    return (this.#searching ??= this.#search().finally(() => (this.#searching = undefined)))
  }

  async #search(): Promise<DatabaseHost> {
    const { hosts } = this.address
    const problems: string[] = []
    for (const index of new Set([this.#latest, ...hosts.keys()])) {
      const found = hosts[index]!
      const problem = await this.#problemOf(found)
      if (problem === undefined) {
        this.#latest = index
        return found
      }
      problems.push(`${placeOf(found)}: ${problem}`)
    }
    throw new UnfitSession(`none of the servers takes writes (${problems.join('; ')})`)
  }

  async #problemOf(place: DatabaseHost): Promise<string | undefined> {
    const timeout = this.address.connectTimeoutMs ?? SEARCH_MS
    const client = new Client({
      ...this.config(place, ''),
      connectionTimeoutMillis: timeout,
      query_timeout: timeout
    })
    withoutShell(client)
    client.on('error', () => {})
    try {
      await client.connect()
      const { rows } = await client.query<{ replica: boolean; readOnly: string }>(
        `
          select pg_is_in_recovery() as replica,
            current_setting('transaction_read_only') as "readOnly"`
      )
      if (rows[0]!.readOnly === 'off') return undefined
      return rows[0]!.replica ? 'a standby' : 'read-only'
    } catch (error) {
      return (error as Error).message || String((error as NodeJS.ErrnoException).code ?? error)
    } finally {
      await client.end().catch(() => {})
    }
  }
}

export function placeOf({ host, port }: DatabaseHost): string {
  return host.startsWith('/')
    ? `${host}/.s.PGSQL.${port}`
    : `${host.includes(':') ? `[${host}]` : host}:${port}`
}
