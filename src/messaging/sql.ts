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

/** The SQLSTATE or system error code of a database error, wrapped by TypeORM or not. */
function codeOf(error: unknown): string {
  const { code, driverError } = (error ?? {}) as { code?: unknown; driverError?: { code?: unknown } }
  const found = driverError?.code ?? code
  return typeof found === 'string' ? found : ''
}

/** Serialization failure, deadlock, lock not available: the same work may succeed when it is simply run again. */
export function isConflict(error: unknown): boolean {
  return ['40001', '40P01', '55P03'].includes(codeOf(error))
}

const UNAVAILABLE_CODES = /^(08...|57P0[1-5]|53300|25006|57014|ECONNREFUSED|ECONNRESET|EPIPE|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH)$/
const UNAVAILABLE_TEXTS = /Connection terminated|timeout exceeded when trying to connect|Query read timeout|not queryable|Driver not Connected|after the pool/i

/** The database is away, restarting, read-only or hangs: nothing is wrong with the work itself. */
export function isUnavailable(error: unknown): boolean {
  return UNAVAILABLE_CODES.test(codeOf(error)) || (error instanceof Error && UNAVAILABLE_TEXTS.test(error.message))
}

/** Another transaction was first: the same work, run again, will see it. */
export class Conflict extends Error {
  override readonly name = 'Conflict'
  readonly code = '40001'
}
