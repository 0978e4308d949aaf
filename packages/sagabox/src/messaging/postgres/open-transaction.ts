import type { ClientBase, QueryResult, QueryResultRow } from 'pg'
import { QueryFailedError } from 'typeorm'
import { isServersOwn } from '../errors/database-away.ts'
import { ONE_SYNC } from '../../quick-ways.ts'
import { parameter } from './array-literal.ts'
import { sendEach } from './one-by-one.ts'
import { encoded, isPrepared, OneSync } from './one-sync.ts'
import { probeOneSync } from './probe-one-sync.ts'

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
  /** The quick way: as the protocol carries them. */
  values: unknown[]
  /** Nobody waits for its answer but the commit. */
  isWrite: boolean
  resolve(result: QueryResult): void
  reject(error: unknown): void
}

const BEGIN = { name: 'begin', text: 'begin' }
const COMMIT = { name: 'commit', text: 'commit' }

/**
 * A transaction on one connection. What is sent in one turn of the event loop goes to the server as
 * one message (one Sync), BEGIN and COMMIT included, and comes back as one. The plain way is each
 * statement by itself, BEGIN before all.
 */
export class OpenTransaction {
  readonly #client: ClientBase
  /** Statements go under one Sync. */
  readonly #isQuick = ONE_SYNC.probe(probeOneSync).isOpen
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
    const carried = values.map(this.#isQuick ? encoded : parameter)
    const answer = new Promise<QueryResult>((resolve, reject) =>
      this.#queued.push({ statement, values: carried, isWrite, resolve, reject })
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
    const ready = this.#areReady([BEGIN, ...this.#queued.map(({ statement }) => statement)])
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
    if (!this.#areReady(statements.map(({ statement }) => statement)))
      sendEach(this.#client, statements, failed)
    else sendTogether(this.#client, statements, failed)
  }

  /** One that is not prepared yet goes by itself, as pg sends it. */
  #areReady(statements: readonly Statement[]): boolean {
    return this.#isQuick && statements.every((one) => isPrepared(this.#client, one))
  }
}

function sendTogether(
  client: ClientBase,
  statements: readonly QueuedStatement[],
  failed: (one: QueuedStatement, error: unknown) => void
): void {
  const query = new OneSync(statements, (error) => {
    const { results } = query
    statements.forEach((one, index) => {
      if (index < results.length && (!error || results.length < statements.length))
        one.resolve(results[index]!)
      else if (index === results.length) failed(one, error)
      else one.reject(error)
    })
  })
  client.query(query)
}
