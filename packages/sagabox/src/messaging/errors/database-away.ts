import pg from 'pg'
import { describeError } from './describe.ts'
import { SagaboxError } from './sagabox-error.ts'

/**
 * The database is away, full, read-only, restarting or refuses us: nothing is wrong with the work
 * itself. Where it failed decides, not a list of codes: no session could be had, no transaction
 * could begin in it, or the session met this and not the work.
 */
export class DatabaseAway extends SagaboxError {
  override readonly name: string = 'DatabaseAway'
  override readonly code = 'DATABASE_AWAY'
  /** The SQLSTATE or system error code, where there is one. */
  readonly databaseCode: string | undefined

  constructor(cause: unknown) {
    super(describeError(cause).text, { cause })
    this.databaseCode = codeOf(cause)
  }
}

// Connection trouble, out of disk or memory or connections, shutting down or cancelled, I/O error,
// read-only, internal error.
const SERVERS_OWN = /^(08...|53...|57...|58...|25006|XX...)$/
const SESSION_ENDS = new Set(['FATAL', 'PANIC'])
/**
 * The handler did nothing with its transaction for too long: its own fault, or the process was
 * suspended.
 */
const KEPT_IDLE = /^25P0[34]$/

/**
 * Whether what a statement met tells of the session or the server.
 * @param error of pg, or of a library upon it, from a statement that was sent; others tell of the work
 */
export function isServersOwn(error: unknown): boolean {
  const answer = answerOf(error)
  // No answer came: what pg says by itself is about its connection.
  if (!(answer instanceof pg.DatabaseError)) return answer instanceof Error
  const { severity = '', code = '' } = answer
  return !KEPT_IDLE.test(code) && (SESSION_ENDS.has(severity) || SERVERS_OWN.test(code))
}

/** What the database said, where a library upon pg has put it into an error of its own. */
export function answerOf(error: unknown): unknown {
  if (error instanceof pg.DatabaseError || error instanceof SagaboxError) return error
  const { driverError, cause } = (error ?? {}) as { driverError?: unknown; cause?: unknown }
  if (isAnswer(driverError)) return driverError
  return isAnswer(cause) ? cause : error
}

function isAnswer(inner: unknown): boolean {
  return inner instanceof pg.DatabaseError || inner instanceof DatabaseAway
}

/**
 * The SQLSTATE or system error code of an error of pg, or of a library upon it, or of one that says
 * away; undefined where there is none.
 */
export function codeOf(error: unknown): string | undefined {
  const answer = answerOf(error)
  const { code, databaseCode } = (answer ?? {}) as { code?: unknown; databaseCode?: unknown }
  const found = answer instanceof SagaboxError ? databaseCode : code
  return typeof found === 'string' ? found : undefined
}
