import pg, { type ClientBase, type QueryConfig, type QueryResult, type QueryResultRow } from 'pg'
import { isServersOwn } from '../errors/database-away.ts'
import { ONE_SYNC } from '../../quick-ways.ts'
import { parameter } from './array-literal.ts'
import { sendEach } from './one-by-one.ts'
import { encoded, isPrepared, OneSync } from './one-sync.ts'
import { probeOneSync } from './probe-one-sync.ts'
import { mayUndo, mustNotEnd } from './user-query.ts'

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

/** A query of somebody else's, in turn with the statements. */
interface QueuedQuery {
  start(): void
  reject(error: unknown): void
}

const BEGIN = { name: 'begin', text: 'begin' }
const COMMIT = { name: 'commit', text: 'commit' }

/**
 * Sessions plan by index wherever one can be used, for the sake of the library's own statements
 * (see session.ts). What users ask is planned as PostgreSQL plans by itself.
 */
const SETTINGS = ['enable_seqscan', 'enable_bitmapscan', 'row_security']
const PLAN_FOR = {
  users: { name: 'plan_for_users', text: settingAll('on') },
  library: { name: 'plan_for_library', text: settingAll('off') }
}

/**
 * A transaction on one connection. What is sent in one turn of the event loop goes to the server as
 * one message (one Sync), BEGIN and COMMIT included, and comes back as one. The plain way is each
 * statement by itself, BEGIN before all.
 */
export class OpenTransaction {
  readonly #client: ClientBase
  /** What users ask is planned as the library's statements are. */
  readonly #avoidsScans: boolean
  /** Statements go under one Sync. */
  readonly #isQuick = ONE_SYNC.probe(probeOneSync).isOpen
  readonly #queued: (QueuedStatement | QueuedQuery)[] = []
  #isScheduled = false
  /** Undefined: nothing was sent yet. */
  #beginning: Promise<void> | undefined
  #begun = false
  #ended = false
  /**
   * For whom the session plans. A savepoint is made, and rolled back to, by a query of users: what
   * it brings back is as it was then, for them.
   */
  #plansFor: keyof typeof PLAN_FOR = 'library'
  /** A part of it may have been undone, by a savepoint. */
  mayHaveUndone = false
  /** What the first failed write met. */
  failedWrite: unknown
  /**
   * What the session met by itself, whatever the work made of it: the transaction failed by no
   * fault of the work's.
   */
  away: unknown
  /** The work has ended the transaction: what it did until then is committed, or gone. */
  endedByWork: Error | undefined
  /** Rejects when the session ends while nothing is asked of it, which no statement would tell. */
  readonly lost: Promise<never>
  #lose!: (error: Error) => void

  constructor(client: ClientBase, avoidsScans: boolean) {
    this.#client = client
    this.#avoidsScans = avoidsScans
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
    if (this.#plansFor !== 'library') this.#planFor('library')
    return this.#enqueue<Row>(statement, values, isWrite)
  }

  /**
   * Runs a query of somebody else's, in turn with what is sent.
   * @param query of readQuery
   * @param isOwn whether it is the library's
   * @throws Error when the transaction has ended, or the query would end it
   */
  query<Row extends QueryResultRow>(query: QueryConfig, isOwn = false): Promise<QueryResult<Row>> {
    mustNotEnd(query.text)
    this.#mustBeOpen()
    if (mayUndo(query.text)) this.mayHaveUndone = true
    const whom = isOwn || this.#avoidsScans ? 'library' : 'users'
    if (this.#plansFor !== whom) this.#planFor(whom)
    const answer = new Promise<QueryResult<Row>>((resolve, reject) => {
      const failed = (error: Error) => {
        if (isServersOwn(error)) this.away ??= error
        reject(error)
      }
      const start = () => void this.#client.query<Row>(query).then(resolve, failed)
      this.#queued.push({ start, reject })
      this.#flush()
    }).then((result) => {
      this.#mustGoOn(query.text)
      return result
    })
    // Not everybody waits; what failed fails the commit in any case.
    answer.catch(() => {})
    return answer
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
    if (this.endedByWork) throw this.endedByWork
    const committed = this.#enqueue(COMMIT, [], false)
    this.#ended = true
    const { command } = await committed
    return command !== 'ROLLBACK'
  }

  /** What waits is never sent. */
  async rollback(reason: unknown): Promise<void> {
    this.#ended = true
    this.#giveUp(reason)
    if (!this.#beginning) return
    // BEGIN may have succeeded although its message failed; a needless ROLLBACK is a notice.
    await this.#begin().catch(() => {})
    // On a lost connection there is nothing left to roll back.
    const answers = await this.#client.query('rollback').then(
      () => true,
      () => false
    )
    // pg had no answer to give, and the session does: a parser of the work's has thrown.
    if (answers && this.#begun && !(this.away instanceof pg.DatabaseError)) this.away = undefined
  }

  #enqueue<Row extends QueryResultRow>(
    statement: Statement,
    values: unknown[],
    isWrite: boolean
  ): Promise<QueryResult<Row>> {
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

  #planFor(whom: keyof typeof PLAN_FOR): void {
    this.#plansFor = whom
    void this.#enqueue(PLAN_FOR[whom], [], false)
  }

  /** The connection is somebody else's then. */
  #mustBeOpen(): void {
    if (this.endedByWork) throw this.endedByWork
    if (this.#ended)
      throw new Error('The transaction has ended: nothing can be sent in it any more')
  }

  /** One text may hold several statements. */
  #mustGoOn(text: string): void {
    const { getTransactionStatus } = this.#client as { getTransactionStatus?(): string | null }
    if (this.#ended || getTransactionStatus?.call(this.#client) !== 'I') return
    this.endedByWork = new Error(
      `${text.trim().slice(0, 60)}: this has ended the transaction, and what was done before it cannot be taken back; only transaction() ends it, when its work returns or throws`
    )
    this.#ended = true
    this.#giveUp(this.endedByWork)
    throw this.endedByWork
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
    const other = this.#queued.findIndex((one) => 'start' in one)
    const first = this.#queued.slice(0, other < 0 ? undefined : other) as QueuedStatement[]
    const ready = this.#areReady([BEGIN, ...first.map(({ statement }) => statement)])
    if (ready) this.#queued.splice(0, first.length)
    try {
      await new Promise<QueryResult>((resolve, reject) =>
        this.#send([
          { statement: BEGIN, values: [], isWrite: false, resolve, reject },
          ...(ready ? first : [])
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

  #dispatch(queued: (QueuedStatement | QueuedQuery)[]): void {
    let statements: QueuedStatement[] = []
    for (const one of queued) {
      if (!('start' in one)) statements.push(one)
      else {
        this.#send(statements)
        statements = []
        one.start()
      }
    }
    this.#send(statements)
  }

  #send(statements: QueuedStatement[]): void {
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

function settingAll(value: string): string {
  return `select ${SETTINGS.map((name) => `set_config('${name}', '${value}', true)`).join(', ')}`
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
