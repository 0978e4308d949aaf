import type { Deed } from '../messaging/postgres/audit.ts'

/** Rows in so many ms: of all strangers together, and of each who is known. */
const MOST = 10
const PERIOD_MS = 10_000
/** Of so many people at once; those beyond share one. */
const MOST_PEOPLE = 1000
const STRANGERS = ''
const SEVERAL = 'several'

/** Of one kind of people: what was written in this period, and what only counted. */
interface Period {
  written: number
  more: number
  timer: NodeJS.Timeout
}

/**
 * Writes refusals one by one as long as they are few; of a flood, how many. Nobody can keep what is
 * refused to others from being written.
 */
export class FewRefusals {
  readonly #write: (deed: Deed) => Promise<void>
  readonly #periodMs: number
  readonly #periods = new Map<string, Period>()
  readonly #writing = new Set<Promise<void>>()

  constructor(write: (deed: Deed) => Promise<void>, periodMs = PERIOD_MS) {
    this.#write = write
    this.#periodMs = periodMs
  }

  refused(deed: Deed): void {
    const whose = this.#whose(deed)
    const period = this.#periods.get(whose) ?? this.#begin(whose)
    if (period.written >= MOST) {
      period.more++
      return
    }
    period.written++
    this.#keep(deed)
  }

  /** Resolves when all that was owed is written. */
  async stop(): Promise<void> {
    for (const [whose, period] of this.#periods) {
      clearTimeout(period.timer)
      this.#end(whose, period)
    }
    await Promise.all(this.#writing)
  }

  #whose({ kind, actor }: Deed): string {
    if (kind === 'anonymous') return STRANGERS
    return this.#periods.has(actor) || this.#periods.size < MOST_PEOPLE ? actor : SEVERAL
  }

  #begin(whose: string): Period {
    const timer = setTimeout(() => this.#end(whose, period), this.#periodMs).unref()
    const period: Period = { written: 0, more: 0, timer }
    this.#periods.set(whose, period)
    return period
  }

  #end(whose: string, { more: times }: Period): void {
    this.#periods.delete(whose)
    if (times === 0) return
    this.#keep({
      actor: whose === STRANGERS ? 'anonymous' : whose,
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
