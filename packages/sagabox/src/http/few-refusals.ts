import type { Deed } from '../messaging/postgres/audit.ts'

/** Rows in so many ms, of strangers and of those who are known, each. */
const MOST = 10
const PERIOD_MS = 10_000

/** Of one kind of people: what was written in this period, and what only counted. */
interface Period {
  written: number
  more: number
  timer: NodeJS.Timeout
}

/**
 * Writes refusals one by one as long as they are few; of a flood, how many. Strangers cannot keep
 * what is refused to those who are known from being written.
 */
export class FewRefusals {
  readonly #write: (deed: Deed) => Promise<void>
  readonly #periodMs: number
  readonly #periods = new Map<boolean, Period>()
  readonly #writing = new Set<Promise<void>>()

  constructor(write: (deed: Deed) => Promise<void>, periodMs = PERIOD_MS) {
    this.#write = write
    this.#periodMs = periodMs
  }

  refused(deed: Deed): void {
    const isKnown = deed.kind !== 'anonymous'
    const period = this.#periods.get(isKnown) ?? this.#begin(isKnown)
    if (period.written >= MOST) {
      period.more++
      return
    }
    period.written++
    this.#keep(deed)
  }

  /** Resolves when all that was owed is written. */
  async stop(): Promise<void> {
    for (const [isKnown, period] of this.#periods) {
      clearTimeout(period.timer)
      this.#end(isKnown, period)
    }
    await Promise.all(this.#writing)
  }

  #begin(isKnown: boolean): Period {
    const timer = setTimeout(() => this.#end(isKnown, period), this.#periodMs).unref()
    const period: Period = { written: 0, more: 0, timer }
    this.#periods.set(isKnown, period)
    return period
  }

  #end(isKnown: boolean, { more: times }: Period): void {
    this.#periods.delete(isKnown)
    if (times === 0) return
    this.#keep({
      actor: isKnown ? 'several' : 'anonymous',
      kind: 'several',
      roles: [],
      action: '',
      target: '',
      reason: `${times} more in ${this.#periodMs / 1000} s`,
      outcome: 'refused',
      status: 0,
      requestId: '',
      times
    })
  }

  #keep(deed: Deed): void {
    const written = this.#write(deed).finally(() => this.#writing.delete(written))
    this.#writing.add(written)
  }
}
