import pg, { type ClientBase, type QueryResultRow } from 'pg'
import { QueryFailedError, type DataSource, type EntityManager, type QueryRunner } from 'typeorm'
import { parameter } from './array-literal.ts'
import { codeOf, DatabaseAway, isServersOwn } from '../errors/database-away.ts'
import { asError } from '../errors/describe.ts'
import { OpenTransaction, type Statement } from './open-transaction.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'

/** The open transaction: always an argument, never ambient. */
export type Tx = EntityManager

let statements = 0

export function statement(text: string): Statement {
  return { name: `s${++statements}`, text }
}

/** A statement of a transaction failed, and the work went on as if it had not. */
export class Swallowed extends SagaboxError {
  override readonly code = 'SWALLOWED'
  constructor(cause?: unknown) {
    super(
      'A statement of this transaction failed and its error was swallowed: nothing of it can be committed',
      { cause }
    )
  }
}

const open = new WeakMap<Tx, OpenTransaction>()

const SET_LOCK_TIMEOUT = statement(`select set_config('lock_timeout', $1, true)`)

export interface TransactionOptions {
  /** How long a statement may wait for a lock, ms; the session's own limit when not given. */
  lockTimeoutMs?: number
}

/**
 * Runs work in a transaction. What `write` has sent goes to the server together with the commit,
 * which fails with it.
 * @throws DatabaseAway when the database could not do it, whatever the work made of that
 * @throws Swallowed when the work hid a statement's error: PostgreSQL would roll back at the commit
 * and say nothing
 * @throws Error what the work threw, or what the first failed `write` met
 */
export async function transaction<R>(
  dataSource: DataSource,
  work: (tx: Tx) => Promise<R>,
  { lockTimeoutMs }: TransactionOptions = {}
): Promise<R> {
  const runner = dataSource.createQueryRunner()
  try {
    const current = new OpenTransaction(await sessionOf(runner))
    // As TypeORM's own startTransaction() leaves it: what runs inside is a savepoint.
    Object.assign(runner, {
      isTransactionActive: true,
      transactionDepth: 1,
      query: inTurn(runner.query.bind(runner), current)
    })
    open.set(runner.manager, current)
    try {
      if (lockTimeoutMs !== undefined)
        void write(runner.manager, SET_LOCK_TIMEOUT, [`${lockTimeoutMs}ms`])
      const result = await Promise.race([work(runner.manager), current.lost])
      if (!(await current.commit())) throw new Swallowed()
      return result
    } catch (thrown) {
      const error = asError(thrown)
      await current.rollback(error)
      throw current.away === undefined
        ? causeOf(error, current.failedWrite)
        : new DatabaseAway(current.away)
    } finally {
      current.close()
      Object.assign(runner, { isTransactionActive: false, transactionDepth: 0 })
    }
  } finally {
    await runner.release()
  }
}

async function sessionOf(runner: QueryRunner): Promise<ClientBase> {
  try {
    return (await runner.connect()) as ClientBase
  } catch (error) {
    throw error instanceof DatabaseAway ? error : new DatabaseAway(error)
  }
}

/** After a failed statement every later one fails too, and none of them says why. */
function causeOf(error: unknown, failedWrite: unknown): unknown {
  if (!isAborted(error) && !(error instanceof Swallowed)) return error
  return failedWrite === undefined || isAborted(failedWrite)
    ? new Swallowed(failedWrite)
    : failedWrite
}

/**
 * What follows the end of the transaction would be committed by itself. TypeORM sends this for a
 * savepoint that failed.
 */
const ENDS =
  /^\s*(commit|end|abort|prepare\s+transaction|rollback(?!(\s+(work|transaction))?\s+to\b))\b/i

/** TypeORM's own statements, after those that wait to be sent. */
function inTurn<A extends [text: string, ...unknown[]], R>(
  query: (...args: A) => Promise<R>,
  current: OpenTransaction
): typeof query {
  return async (...args) => {
    if (ENDS.test(args[0]))
      throw new Error(
        `${args[0].trim()}: only transaction() ends a transaction, when its work returns or throws`
      )
    return current.alongside(() => query(...args))
  }
}

/** Whether the transaction is inside a savepoint of TypeORM's, which may be undone alone. */
export function isNested({ queryRunner }: Tx): boolean {
  return (
    queryRunner !== undefined &&
    (queryRunner as unknown as { transactionDepth: number }).transactionDepth > 1
  )
}

/**
 * Runs a statement in the transaction, on TypeORM's own connection. Returns the rows, or those of
 * `returning`.
 */
export async function run<Row extends QueryResultRow>(
  tx: Tx,
  sent: Statement,
  values: unknown[]
): Promise<Row[]> {
  if (!tx.queryRunner) throw new Error('run() needs the EntityManager of an open transaction')
  const current = open.get(tx)
  if (current) return (await current.send<Row>(sent, values, false)).rows
  const client = (await tx.queryRunner.connect()) as ClientBase
  return (await client.query<Row>({ ...sent, values: values.map(parameter) })).rows
}

/**
 * Sends a statement whose answer need not be waited for: the commit waits for it. Only inside
 * `transaction`.
 */
export function write<Row extends QueryResultRow>(
  tx: Tx,
  sent: Statement,
  values: unknown[]
): Promise<Row[]> {
  const current = open.get(tx)
  if (!current) throw new Error('write() needs a transaction that was begun by transaction()')
  const written = current.send<Row>(sent, values, true).then(({ rows }) => rows)
  // The commit reports it.
  written.catch(() => {})
  return written
}

/** Never inside JSON text, which writes control characters as \u escapes. */
const SEPARATOR = '\u001e'

/**
 * JSON texts as one text parameter, which `jsonTexts` in the statement takes apart again. In an
 * array parameter every quotation mark is escaped here and unescaped there: 4 % of the CPU time of
 * an order.
 */
export function joinJson(texts: readonly string[]): string {
  return texts.join(SEPARATOR)
}

/**
 * JSON that PostgreSQL takes: it stores neither NUL nor half a surrogate pair. Bytes are written as
 * Node writes them.
 * @param shorten what is written of each text; all of it when not given
 */
export function storableJson(value: unknown, shorten = (text: string) => text): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (typeof part === 'string') return storableText(shorten(part))
    if (part === null || typeof part !== 'object' || Array.isArray(part)) return part
    return Object.fromEntries(
      Object.entries(part).map(([key, field]) => [storableText(key), field as unknown])
    )
  })
}

/** Text that PostgreSQL takes. */
export function storableText(text: string): string {
  return text.replaceAll('\0', '\uFFFD').toWellFormed()
}

/** The SQL for parameter `$n`, written by joinJson, as `text[]`. */
export function jsonTexts(n: number): string {
  return `string_to_array($${n}::text, U&'\\001E')`
}

function isAborted(error: unknown): boolean {
  return codeOf(error) === '25P02'
}

/**
 * Serialization failure, deadlock, lock not available, or another transaction was first: run again,
 * the same work may succeed.
 */
export function isConflict(error: unknown): boolean {
  return error instanceof Conflict || /^(40001|40P01|55P03)$/.test(codeOf(error) ?? '')
}

/** Somebody kept a lock for longer than it may be waited for. */
export function isLockTimeout(error: unknown): boolean {
  return codeOf(error) === '55P03'
}

/** What pg says by itself, where nobody has told it from the work's own errors yet. */
const UNAVAILABLE_TEXTS =
  /Connection terminated|timeout exceeded when trying to connect|Query read timeout|not queryable|Driver not Connected|after calling end on the pool/i

/**
 * The database is away, restarting, full, read-only or hangs: nothing is wrong with the work
 * itself. Of what `transaction` throws, only DatabaseAway says so for certain: what looks like it
 * may be of another server that the work asked.
 */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof DatabaseAway) return true
  if (error instanceof QueryFailedError || error instanceof pg.DatabaseError)
    return isServersOwn(error)
  return error instanceof Error && UNAVAILABLE_TEXTS.test(error.message)
}

/**
 * It looks like a database that is away, and may as well be the work: a statement that takes too
 * long or is too large, an internal error.
 */
export function isAmbiguous(error: unknown): boolean {
  return (
    /^(57014|08P01|XX...|54...)$/.test(codeOf(error) ?? '') ||
    (error instanceof Error && /Query read timeout/.test(error.message))
  )
}

/**
 * The database cannot store these values (SQLSTATE class 22, such as a NUL in JSON): no retry will
 * change that.
 */
export function isBadData(error: unknown): boolean {
  return /^22...$/.test(codeOf(error) ?? '')
}

/** Another transaction was first: the same work, run again, will see it. */
export class Conflict extends SagaboxError {
  override readonly name = 'Conflict'
  override readonly code = 'CONFLICT'
}
