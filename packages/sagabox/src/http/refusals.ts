import type { FastifyBaseLogger } from 'fastify'

/**
 * How often a lasting cause is mentioned again, and how long without a refusal until it counts as
 * over, ms.
 */
const PERIOD_MS = 60_000

interface Lasting {
  /** Refused since the last line. */
  more: number
  refused: number
  timer: NodeJS.Timeout
}

/**
 * Logs why requests are refused: a line when it begins, one a minute while it lasts, one when it is
 * over.
 */
export class Refusals {
  readonly #log: FastifyBaseLogger
  readonly #periodMs: number
  readonly #lasting = new Map<string, Lasting>()

  constructor(log: FastifyBaseLogger, periodMs = PERIOD_MS) {
    this.#log = log
    this.#periodMs = periodMs
  }

  /** @param cause the line; the same for all that are one outage */
  refused(cause: string, details: object): void {
    const lasting = this.#lasting.get(cause)
    if (lasting) {
      lasting.more++
      lasting.refused++
      return
    }
    this.#log.warn(details, `${cause}; requests are refused. Further ones are counted`)
    const timer = setInterval(() => this.#look(cause), this.#periodMs).unref()
    this.#lasting.set(cause, { more: 0, refused: 1, timer })
  }

  #look(cause: string): void {
    const lasting = this.#lasting.get(cause)!
    const { more, refused, timer } = lasting
    if (more > 0) {
      this.#log.warn(
        { more, refused },
        `${cause}; ${more} more requests were refused in ${this.#periodMs / 1000} s`
      )
      lasting.more = 0
      return
    }
    clearInterval(timer)
    this.#lasting.delete(cause)
    this.#log.info({ refused }, `Over: ${cause}. ${refused} requests were refused`)
  }

  /** The lines that are still owed are written. */
  stop(): void {
    for (const [cause, { timer, refused, more }] of this.#lasting) {
      clearInterval(timer)
      if (more > 0) this.#log.warn({ refused }, `${cause}; ${refused} requests were refused`)
    }
    this.#lasting.clear()
  }
}
