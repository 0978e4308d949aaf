import type { Duplex } from 'node:stream'
import type { ClientBase, QueryResultRow } from 'pg'
import type { DataSource, EntityManager } from 'typeorm'
import { parameter } from './array-literal.ts'
import { begin, type Opening } from './opening.ts'

/** The open transaction: always an argument, never ambient. */
export type Tx = EntityManager

/** One SQL statement, prepared once a connection: planning a join of `unnest` costs more than running it. */
export interface Statement {
  readonly name: string
  readonly text: string
}

let statements = 0

export function statement(text: string): Statement {
  return { name: `s${++statements}`, text }
}

interface OpenTransaction {
  client: ClientBase
  /** Statements sent and not waited for. */
  writes: Promise<unknown>[]
}

/** Fails in a transaction in which a statement has failed. */
const NOTHING = statement('select')
const SWALLOWED = 'A statement of this transaction failed and its error was swallowed: nothing of it can be committed'

const open = new WeakMap<Tx, OpenTransaction>()

/**
 * Runs work in a transaction. What `write` has sent goes to the server together with the commit, which fails with it.
 * @param work gets what the opening has read
 * @param opening a statement to begin with, which saves a round trip
 * @throws what the work threw, what the first failed `write` met, or an error when a failed statement's error was swallowed:
 * PostgreSQL would answer such a commit with a rollback, and say nothing
 */
export async function transaction<R, T = undefined>(dataSource: DataSource, work: (tx: Tx, opened: T) => Promise<R>, opening?: Opening<T>): Promise<R> {
  const runner = dataSource.createQueryRunner()
  const writes: Promise<unknown>[] = []
  try {
    const client = (await runner.connect()) as ClientBase
    // As TypeORM's own startTransaction() leaves it, which sends nothing else along: what runs inside is a savepoint.
    Object.assign(runner, { isTransactionActive: true, transactionDepth: 1 })
    const opened = (await begin(client, opening)) as T
    open.set(runner.manager, { client, writes })
    const result = await work(runner.manager, opened)
    const outcomes = await Promise.allSettled([...writes, run(runner.manager, NOTHING, []), runner.commitTransaction()])
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw isAborted(outcome.reason) ? new Error(SWALLOWED, { cause: outcome.reason }) : outcome.reason
    return result
  } catch (error) {
    const outcomes = await Promise.allSettled(writes)
    // On a lost connection there is nothing left to roll back.
    if (runner.isTransactionActive) await runner.rollbackTransaction().catch(() => {})
    // After a failed write every later statement fails too, and none of them says why.
    throw outcomes.find((outcome) => outcome.status === 'rejected')?.reason ?? error
  } finally {
    await runner.release()
  }
}

/** Runs a statement in the transaction, on TypeORM's own connection. Returns the rows, or those of `returning`. */
export async function run<Row extends QueryResultRow>(tx: Tx, { name, text }: Statement, values: unknown[]): Promise<Row[]> {
  if (!tx.queryRunner) throw new Error('run() needs the EntityManager of an open transaction')
  const client = open.get(tx)?.client ?? ((await tx.queryRunner.connect()) as ClientBase)
  pack(client)
  const result = await client.query<Row>({ name, text, values: values.map(parameter) })
  return result.rows
}

/** Lets what is sent before the next turn of the event loop leave in one packet: pg writes each statement by itself. */
function pack(client: ClientBase): void {
  const { stream } = (client as unknown as { connection: { stream: Duplex } }).connection
  stream.cork()
  process.nextTick(() => stream.uncork())
}

/** Sends a statement whose answer need not be waited for: the commit waits for it. Only inside `transaction`. */
export function write<Row extends QueryResultRow>(tx: Tx, sent: Statement, values: unknown[]): Promise<Row[]> {
  const current = open.get(tx)
  if (!current) throw new Error('write() needs a transaction that was begun by transaction()')
  const written = run<Row>(tx, sent, values)
  // The commit reports it.
  written.catch(() => {})
  current.writes.push(written)
  return written
}

/** Never inside JSON text, which writes control characters as \u escapes. */
const SEPARATOR = '\u001e'

/**
 * JSON texts as one text parameter, which `jsonTexts` in the statement takes apart again. In an array parameter every
 * quotation mark is escaped here and unescaped there: 4 % of the CPU time of an order.
 */
export function joinJson(texts: readonly string[]): string {
  return texts.join(SEPARATOR)
}

/** JSON that PostgreSQL takes: it stores neither NUL nor half a surrogate pair. Bytes are written as Node writes them. */
export function storableJson(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (typeof part === 'string') return storableText(part)
    if (part === null || typeof part !== 'object' || Array.isArray(part)) return part
    return Object.fromEntries(Object.entries(part).map(([key, field]) => [storableText(key), field as unknown]))
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

/** The SQLSTATE or system error code of a database error, wrapped by TypeORM or not. */
function codeOf(error: unknown): string {
  const { code, driverError } = (error ?? {}) as { code?: unknown; driverError?: { code?: unknown } }
  const found = driverError?.code ?? code
  return typeof found === 'string' ? found : ''
}

function isAborted(error: unknown): boolean {
  return codeOf(error) === '25P02'
}

/** Serialization failure, deadlock, lock not available, or another transaction was first: run again, the same work may succeed. */
export function isConflict(error: unknown): boolean {
  return error instanceof Conflict || ['40001', '40P01', '55P03'].includes(codeOf(error))
}

// Connection trouble, out of disk or memory or connections, shutting down, I/O error, killed while idle, read-only, internal error.
const UNAVAILABLE_CODES = /^(08...|53...|57...|58...|25P0[34]|25006|XX...|E(CONN\w+|PIPE|NOTFOUND|AI_AGAIN|TIMEDOUT|HOSTUNREACH|NETUNREACH))$/
const UNAVAILABLE_TEXTS = /Connection terminated|timeout exceeded when trying to connect|Query read timeout|not queryable|Driver not Connected|after calling end on the pool/i

/** The database is away, restarting, full, read-only or hangs: nothing is wrong with the work itself. */
export function isUnavailable(error: unknown): boolean {
  return UNAVAILABLE_CODES.test(codeOf(error)) || (error instanceof Error && UNAVAILABLE_TEXTS.test(error.message))
}

/**
 * It looks like a database that is away, and may as well be the work: a statement that takes too long or is too large, an
 * internal error.
 */
export function isAmbiguous(error: unknown): boolean {
  return /^(57014|08P01|XX...|54...)$/.test(codeOf(error)) || (error instanceof Error && /Query read timeout/.test(error.message))
}

/** The database cannot store these values (SQLSTATE class 22, such as a NUL in JSON): no retry will change that. */
export function isBadData(error: unknown): boolean {
  return /^22...$/.test(codeOf(error))
}

/** Another transaction was first: the same work, run again, will see it. */
export class Conflict extends Error {
  override readonly name = 'Conflict'
}
