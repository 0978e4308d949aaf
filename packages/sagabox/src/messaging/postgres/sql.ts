import pg, { type QueryConfig, type QueryResultRow } from 'pg'
import { codeOf, DatabaseAway, answerOf, isServersOwn } from '../errors/database-away.ts'
import { asError } from '../errors/describe.ts'
import type { Message } from '../message/message.ts'
import type { Database } from './database.ts'
import { OpenTransaction, type Statement } from './open-transaction.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'
import { readQuery, type AnyRow, type Queries } from './user-query.ts'

/** The open transaction: always an argument, never ambient. */
export interface Tx extends Queries {
  /**
   * Stores messages in the outbox of the service whose transaction it is: they leave after, and only
   * after, it commits. What a savepoint undoes is not sent. In a handler made by `handle` they
   * continue the conversation of its message, as what it returns does.
   * @throws NowhereToSend for a contract whose destination is not in the topology
   * @throws Error when the transaction was opened without an outbox
   */
  send(...messages: readonly Message[]): void
}

let statements = 0

/** A statement of a hot path: each connection prepares it once, under a name of its own. */
export function statement(text: string): Statement {
  return { name: `sagabox_${++statements}`, text }
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

type Send = (tx: Tx, messages: readonly Message[]) => void

class ServiceTx implements Tx {
  readonly #current: OpenTransaction
  readonly #send: Send | undefined

  constructor(current: OpenTransaction, send: Send | undefined) {
    this.#current = current
    this.#send = send
  }

  /** @throws Error when it was not begun by `transaction` */
  static currentOf(tx: Tx, what: string): OpenTransaction {
    if (!(tx instanceof ServiceTx))
      throw new Error(`${what} needs a transaction that was begun by transaction()`)
    return tx.#current
  }

  /** The same transaction, in which messages are changed before they are sent. */
  static sending(tx: ServiceTx, changed: (message: Message) => Message): ServiceTx {
    const send: Send = (_, messages) => tx.send(...messages.map(changed))
    return new ServiceTx(tx.#current, send)
  }

  readonly query = (async (sent: string | QueryConfig, values?: unknown[]) =>
    this.#current.query(readQuery(sent, values))) as Queries['query']

  send(...messages: readonly Message[]): void {
    if (!this.#send)
      throw new Error(
        "This transaction has no outbox to send by; expected one of a service: service.transaction, or a handler's"
      )
    this.#send(this, messages)
  }
}

const SET_LOCK_TIMEOUT = statement(`select set_config('lock_timeout', $1, true)`)
const READ_ONE_MOMENT = statement('set transaction isolation level repeatable read')

/** How a transaction is begun. */
export interface TransactionOptions {
  /** How long a statement may wait for a lock, ms; the session's own limit when not given. */
  lockTimeoutMs?: number
  /** `repeatable read`: all its statements see one moment; `read committed` when not given. */
  isolation?: 'repeatable read'
}

/**
 * Runs work in a transaction. What `write` has sent goes to the server together with the commit,
 * which fails with it.
 * @param send what `tx.send` does; it is refused when not given
 * @throws DatabaseAway when the database could not do it, whatever the work made of that
 * @throws Swallowed when the work hid a statement's error: PostgreSQL would roll back at the commit
 * and say nothing
 * @throws Error what the work threw, or what the first failed `write` met
 */
export async function transaction<R>(
  database: Database,
  work: (tx: Tx) => Promise<R>,
  { lockTimeoutMs, isolation }: TransactionOptions = {},
  send?: Send
): Promise<R> {
  const client = await database.session()
  const current = new OpenTransaction(client, database.avoidsScans)
  try {
    const tx = new ServiceTx(current, send)
    if (isolation !== undefined) void write(tx, READ_ONE_MOMENT, [])
    if (lockTimeoutMs !== undefined) void write(tx, SET_LOCK_TIMEOUT, [`${lockTimeoutMs}ms`])
    const result = await Promise.race([work(tx), current.lost])
    if (!(await current.commit())) throw new Swallowed()
    return result
  } catch (thrown) {
    const error = asError(thrown)
    await current.rollback(error)
    throw current.away === undefined
      ? causeOf(current.endedByWork ?? error, current.failedWrite)
      : new DatabaseAway(current.away)
  } finally {
    current.close()
    client.release()
  }
}

/** After a failed statement every later one fails too, and none of them says why. */
function causeOf(error: unknown, failedWrite: unknown): unknown {
  if (!isAborted(error) && !(error instanceof Swallowed)) return error
  return failedWrite === undefined || isAborted(failedWrite)
    ? new Swallowed(failedWrite)
    : failedWrite
}

/** Whether it is a transaction of `transaction`, and not a connection of somebody's own. */
export function isTx(on: object): on is Tx {
  return on instanceof ServiceTx
}

/** One and the same for all that stand for one transaction. */
export function transactionOf(tx: Tx): object {
  return ServiceTx.currentOf(tx, 'transactionOf()')
}

/** The same transaction, in which messages are changed before they are sent by `send`. */
export function sendingAs(tx: Tx, changed: (message: Message) => Message): Tx {
  return tx instanceof ServiceTx ? ServiceTx.sending(tx, changed) : tx
}

/** Whether a savepoint may have undone a part of the transaction. */
export function mayHaveUndone(tx: Tx): boolean {
  return ServiceTx.currentOf(tx, 'mayHaveUndone()').mayHaveUndone
}

/** Runs a statement in the transaction. Returns the rows, or those of `returning`. */
export async function run<Row extends QueryResultRow>(
  tx: Tx,
  sent: Statement,
  values: unknown[]
): Promise<Row[]> {
  return (await ServiceTx.currentOf(tx, 'run()').send<Row>(sent, values, false)).rows
}

/**
 * Sends a statement whose answer need not be waited for: the commit waits for it.
 */
export function write<Row extends QueryResultRow>(
  tx: Tx,
  sent: Statement,
  values: unknown[]
): Promise<Row[]> {
  const written = ServiceTx.currentOf(tx, 'write()')
    .send<Row>(sent, values, true)
    .then(({ rows }) => rows)
  // The commit reports it.
  written.catch(() => {})
  return written
}

/**
 * Runs SQL of the library's own that is put together for the occasion, and so not prepared; in a
 * transaction, or by itself. Returns the rows.
 */
export async function ask<Row extends QueryResultRow = AnyRow>(
  on: Tx | Database,
  text: string,
  values?: unknown[]
): Promise<Row[]> {
  if ('rows' in on) return on.rows<Row>(text, values)
  const query = readQuery(text, values)
  return (await ServiceTx.currentOf(on, 'ask()').query<Row>(query, true)).rows
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
  /Connection terminated|timeout exceeded when trying to connect|Query read timeout|not queryable|after calling end on the pool/i

/**
 * The database is away, restarting, full, read-only or hangs: nothing is wrong with the work
 * itself. Of what `transaction` throws, only DatabaseAway says so for certain: what looks like it
 * may be of another server that the work asked.
 */
export function isUnavailable(error: unknown): boolean {
  const answer = answerOf(error)
  if (answer instanceof DatabaseAway) return true
  if (answer instanceof pg.DatabaseError) return isServersOwn(answer)
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
