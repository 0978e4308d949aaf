import type { DatabaseAway } from '../errors/database-away.ts'
import type { Log } from '../async/log.ts'

/**
 * So long, ms, nothing may have failed before the database counts as back: on a full disk, or
 * behind a flapping proxy, every second try works.
 */
const CALM_MS = 5000
/** Failures this close together, ms, are one. */
const ONCE_MS = 1000
/**
 * After so long, ms, messages in hand go back to their queue: an outage spends at most one delivery
 * of each.
 */
const LONG_MS = 60_000

/** Says once, for all parts of a service, that its database is away, and once that it is back. */
export class Outage {
  readonly #schema: string
  readonly #log: Log
  readonly #longMs: number
  #since: number | undefined
  #lastFailure = 0
  #lastSuccess = 0
  #reason = ''

  /** @param longMs when an outage counts as long, ms */
  constructor(schema: string, log: Log, longMs = LONG_MS) {
    this.#schema = schema
    this.#log = log
    this.#longMs = longMs
  }

  /** A transaction has failed by it. */
  failed(error: DatabaseAway): void {
    this.#lastFailure = performance.now()
    this.#reason = error.message
    if (this.#since !== undefined) return
    this.#since = this.#lastFailure
    this.#log.warn(
      { err: error, schema: this.#schema },
      'Database away; all work waits for it, and nothing is lost meanwhile'
    )
  }

  /** A transaction has been committed. */
  worked(): void {
    if (this.#since === undefined) return
    this.#lastSuccess = performance.now()
    if (this.#lastSuccess - this.#lastFailure < CALM_MS) return
    const seconds = Math.round((performance.now() - this.#since) / 1000)
    this.#since = undefined
    this.#log.info({ schema: this.#schema, seconds }, 'Database is back')
  }

  /** How long it has lasted, ms; 0 when there is none. */
  get lastedMs(): number {
    return this.#since === undefined ? 0 : performance.now() - this.#since
  }

  /** It has lasted so long that nobody should hold messages for it. */
  get isLong(): boolean {
    return this.lastedMs >= this.#longMs
  }

  /**
   * Undefined when the database works, otherwise what it said last. A session that a restart has
   * ended fails once, and that is no outage.
   */
  get problem(): string | undefined {
    if (this.#since === undefined) return undefined
    const goesOn =
      this.#lastFailure > this.#lastSuccess || this.#lastFailure - this.#since > ONCE_MS
    return goesOn ? this.#reason : undefined
  }
}
