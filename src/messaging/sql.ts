import type { ClientBase, QueryResultRow } from 'pg'
import type { EntityManager } from 'typeorm'

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

/** Runs a statement in the transaction, on TypeORM's own connection. Returns the rows, or those of `returning`. */
export async function run<Row extends QueryResultRow>(tx: Tx, { name, text }: Statement, values: unknown[]): Promise<Row[]> {
  if (!tx.queryRunner) throw new Error('run() needs the EntityManager of an open transaction')
  const client = (await tx.queryRunner.connect()) as ClientBase
  const result = await client.query<Row>({ name, text, values })
  return result.rows
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

/** The database cannot store these values (SQLSTATE class 22, such as a NUL in JSON): no retry will change that. */
export function isBadData(error: unknown): boolean {
  return /^22...$/.test(codeOf(error))
}

/** Another transaction was first: the same work, run again, will see it. */
export class Conflict extends Error {
  override readonly name = 'Conflict'
}
