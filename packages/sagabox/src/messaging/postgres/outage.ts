import type { Log } from '../async/log.ts'
import type { DatabaseAway } from '../errors/database-away.ts'

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
/** Of what the database or the way there said, characters: the line is to stay short. */
const REASON_CHARACTERS = 200

/**
 * Says once, for all parts of a service, that its database is away, and once that it is back: pools
 * tell of connections, the outbox of transactions. Only failed transactions count for `lastedMs`
 * and `problem`: a pool replaces a connection that was lost alone.
 */
export class Outage {
  readonly #schema: string
  readonly #log: Log
  readonly #longMs: number
  /** Until the first connection, the start says what is missing. */
  #connectedOnce = false
  /** When the line was written that awaits its second. */
  #saidAt: number | undefined
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

  /** A connection was lost, or could not be made. */
  lost(reason: string): void {
    if (this.#connectedOnce) this.#sayAway(reason)
  }

  /** A connection was made. While transactions fail all the same, it is not back. */
  connected(): void {
    this.#connectedOnce = true
    if (this.#since === undefined) this.#sayBack()
  }

  /** A transaction has failed by it. */
  failed(error: DatabaseAway): void {
    this.#lastFailure = performance.now()
    this.#reason = error.message
    this.#since ??= this.#lastFailure
    this.#sayAway(error.message)
  }

  /** A transaction has been committed. */
  worked(): void {
    if (this.#since === undefined) return
    this.#lastSuccess = performance.now()
    if (this.#lastSuccess - this.#lastFailure < CALM_MS) return
    this.#since = undefined
    this.#sayBack()
  }

  /** How long transactions have failed, ms; 0 when they do not. */
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

  #sayAway(reason: string): void {
    if (this.#saidAt !== undefined) return
    this.#saidAt = performance.now()
    this.#log.warn(
      { schema: this.#schema, reason: reason.slice(0, REASON_CHARACTERS) },
      'Database away or connections to it lost; work waits for it, and nothing is lost meanwhile'
    )
  }

  #sayBack(): void {
    if (this.#saidAt === undefined) return
    const seconds = Math.round((performance.now() - this.#saidAt) / 1000)
    this.#saidAt = undefined
    this.#log.info({ schema: this.#schema, seconds }, 'Database is back')
  }
}
