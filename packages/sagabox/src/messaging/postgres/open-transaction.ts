import pg, { type ClientBase, type Connection, type QueryResult, type QueryResultRow } from 'pg'
import utils from 'pg/lib/utils.js'
import { QueryFailedError } from 'typeorm'
import { parameter } from './array-literal.ts'
import { isServersOwn } from '../errors/database-away.ts'

/**
 * One SQL statement, prepared once a connection: planning a join of `unnest` costs more than
 * running it.
 */
export interface Statement {
  readonly name: string
  readonly text: string
}

interface QueuedStatement {
  statement: Statement
  /** As the protocol carries them. */
  values: (string | Buffer | null)[]
  /** Nobody waits for its answer but the commit. */
  isWrite: boolean
  resolve(result: QueryResult): void
  reject(error: unknown): void
}

const BEGIN = { name: 'begin', text: 'begin' }
const COMMIT = { name: 'commit', text: 'commit' }

/**
 * A transaction on one connection. It sends all statements of one turn of the event loop under one
 * Sync, BEGIN and COMMIT included, since each Sync costs a packet and a turn of a busy event loop;
 * after an error PostgreSQL skips the rest up to the Sync.
 */
export class OpenTransaction {
  readonly #client: ClientBase
  readonly #queued: QueuedStatement[] = []
  #isScheduled = false
  /** Undefined: nothing was sent yet. */
  #beginning: Promise<void> | undefined
  #begun = false
  #ended = false
  /** What others are sending over the connection. */
  readonly #alongside = new Set<Promise<unknown>>()
  /** What the first failed write met. */
  failedWrite: unknown
  /**
   * What the session met by itself, whatever the work made of it: the transaction failed by no
   * fault of the work's.
   */
  away: unknown
  /** Rejects when the session ends while nothing is asked of it, which no statement would tell. */
  readonly lost: Promise<never>
  #lose!: (error: Error) => void

  constructor(client: ClientBase) {
    this.#client = client
    this.lost = new Promise((_, reject) => {
      this.#lose = (error) => {
        if (isServersOwn(error)) this.away ??= error
        reject(error)
      }
    })
    this.lost.catch(() => {})
    client.on('error', this.#lose)
  }

  /**
   * What is sent here arrives in the order of the calls.
   * @throws Error when the transaction has ended
   */
  send<Row extends QueryResultRow>(
    statement: Statement,
    values: unknown[],
    isWrite: boolean
  ): Promise<QueryResult<Row>> {
    this.#mustBeOpen()
    const prepared = values.map((value) => utils.prepareValue(parameter(value)))
    const answer = new Promise<QueryResult>((resolve, reject) =>
      this.#queued.push({ statement, values: prepared, isWrite, resolve, reject })
    )
    // Not everybody waits; what failed fails the commit in any case.
    answer.catch(() => {})
    if (!this.#isScheduled) {
      this.#isScheduled = true
      process.nextTick(() => {
        this.#isScheduled = false
        this.#flush()
      })
    }
    return answer as Promise<QueryResult<Row>>
  }

  /**
   * Runs a query of somebody else's on the connection, inside the transaction and after what waits
   * to be sent.
   */
  async alongside<R>(query: () => Promise<R>): Promise<R> {
    this.#mustBeOpen()
    this.#flush()
    const running = this.#begin().then(query)
    this.#alongside.add(running)
    try {
      return await running
    } catch (error) {
      if (error instanceof QueryFailedError && isServersOwn(error)) this.away ??= error
      throw error
    } finally {
      this.#alongside.delete(running)
    }
  }

  /** The session is given back: what it meets from now on concerns others. */
  close(): void {
    this.#client.removeListener('error', this.#lose)
  }

  /**
   * Returns false when PostgreSQL rolled back instead: a statement has failed, and its error was
   * swallowed.
   */
  async commit(): Promise<boolean> {
    await this.#alone()
    const committed = this.send(COMMIT, [], false)
    this.#ended = true
    const { command } = await committed
    return command !== 'ROLLBACK'
  }

  /** What waits is never sent. */
  async rollback(reason: unknown): Promise<void> {
    this.#ended = true
    this.#giveUp(reason)
    if (!this.#beginning) return
    // Behind ROLLBACK it would be committed by itself.
    await this.#alone()
    // BEGIN may have succeeded although its message failed; a needless ROLLBACK is a notice.
    await this.#begin().catch(() => {})
    // On a lost connection there is nothing left to roll back.
    await this.#client.query('rollback').catch(() => {})
  }

  async #alone(): Promise<void> {
    while (this.#alongside.size > 0) await Promise.allSettled(this.#alongside)
  }

  /** The connection is somebody else's then. */
  #mustBeOpen(): void {
    if (this.#ended)
      throw new Error('The transaction has ended: nothing can be sent in it any more')
  }

  #flush(): void {
    if (this.#begun) this.#dispatch(this.#queued.splice(0))
    // What waits when BEGIN fails can never be sent.
    else if (this.#queued.length > 0) this.#begin().catch((error: unknown) => this.#giveUp(error))
  }

  #giveUp(reason: unknown): void {
    for (const { reject } of this.#queued.splice(0)) reject(reason)
  }

  #begin(): Promise<void> {
    this.#beginning ??= this.#sendBegin()
    return this.#beginning
  }

  /**
   * Until BEGIN has succeeded, only what PostgreSQL leaves out when it fails is sent: anything else
   * would be committed by itself.
   */
  async #sendBegin(): Promise<void> {
    const ready = [BEGIN, ...this.#queued.map(({ statement }) => statement)].every((statement) =>
      isPrepared(this.#client, statement)
    )
    const first = ready ? this.#queued.splice(0) : []
    try {
      await new Promise<QueryResult>((resolve, reject) =>
        this.#dispatch([
          { statement: BEGIN, values: [], isWrite: false, resolve, reject },
          ...first
        ])
      )
    } catch (error) {
      // Before the work's first statement: whatever it is, it is not the work's.
      this.away ??= error
      throw error
    }
    this.#begun = true
    this.#flush()
  }

  #dispatch(statements: QueuedStatement[]): void {
    if (statements.length === 0) return
    const failed = ({ isWrite, reject }: QueuedStatement, error: unknown) => {
      if (isWrite) this.failedWrite ??= error
      if (isServersOwn(error)) this.away ??= error
      reject(error)
    }
    if (!statements.every(({ statement }) => isPrepared(this.#client, statement))) {
      for (const one of statements)
        this.#client
          .query({ ...one.statement, values: one.values })
          .then(one.resolve, (error: unknown) => failed(one, error))
      return
    }
    const query = new OneMessage(statements, (error) => {
      const { results } = query
      statements.forEach((one, index) => {
        if (index < results.length && (!error || results.length < statements.length))
          one.resolve(results[index]!)
        else if (index === results.length) failed(one, error)
        else one.reject(error)
      })
    })
    this.#client.query(query)
  }
}

function isPrepared(client: ClientBase, { name, text }: Statement): boolean {
  const { parsedStatements } = (
    client as unknown as { connection: { parsedStatements: Record<string, string> } }
  ).connection
  return parsedStatements[name] === text
}

/** What pg's client asks of a query. */
interface PgQuery {
  /** The result that is being read. */
  _result: QueryResult
  submit(connection: Connection): Error | null
  handleCommandComplete(message: unknown, connection: Connection): void
}

const PgQuery = pg.Query as unknown as new (
  config: { text: string },
  answered: (error: Error | undefined) => void
) => PgQuery

/** Prepared statements with one Sync after the last, which pg has no call for. */
class OneMessage extends PgQuery {
  /** Of the statements that have succeeded. */
  readonly results: QueryResult[] = []
  readonly #statements: readonly QueuedStatement[]

  constructor(
    statements: readonly QueuedStatement[],
    answered: (error: Error | undefined) => void
  ) {
    super({ text: '' }, answered)
    this.#statements = statements
  }

  override submit(connection: Connection): null {
    connection.stream.cork()
    for (const { statement, values } of this.#statements) {
      connection.bind({ statement: statement.name, values }, false)
      connection.describe({ type: 'P' }, false)
      connection.execute(null, false)
    }
    connection.sync()
    connection.stream.uncork()
    return null
  }

  override handleCommandComplete(message: unknown, connection: Connection): void {
    super.handleCommandComplete(message, connection)
    // oxlint-disable-next-line no-underscore-dangle -- the name is pg's
    this.results.push(this._result)
  }
}
