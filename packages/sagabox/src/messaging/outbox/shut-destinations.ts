import { backoff } from '../async/batcher.ts'

/** Pause before a destination that took nothing is tried again, ms: it grows from try to try. */
const RETRY_MIN_MS = 1000
const RETRY_MAX_MS = 30_000
/** Rows of the first try, and how much more each try that succeeded lets the next have. */
const FIRST = 1
const GROWTH = 8
const MOST = 500

/** How a row of a try ended: answered, or unknown because the channel went. */
export type Landing = 'accepted' | 'refused' | 'unknown'

/** Why a row is put off, as the table keeps it. */
export interface Why {
  /** The transport's answer, or `failed` when it concerns one message alone. */
  putOff: string
  /** A sentence for an operator; null: as it is in the table. */
  error: string | null
}

interface Shut {
  why: Why
  /** Somebody was told, and will be told when it is over. */
  warned: boolean
  /** It has taken all that had been put off: what is new goes there straight away again. */
  open: boolean
  failures: number
  /** By performance.now(). */
  retryAt: number
  /** Rows of the next try. */
  rows: number
  /**
   * The try that runs: rows not yet answered, rows in all, rows taken, and whether more are put
   * off.
   */
  underWay: number
  tried: number
  took: number
  more: boolean
}

export interface ShutDestinationsOptions {
  /** A destination takes nothing any more; called once until it does again. */
  shut(destination: string, why: Why): void
  /** It takes messages again. */
  opened(destination: string): void
}

/**
 * Destinations that answered "no": a full queue, a missing one. All rows to them wait; a few are
 * tried after a growing pause, and once they are
 * taken all the others follow, in tries that grow.
 */
export class ShutDestinations {
  readonly #options: ShutDestinationsOptions
  readonly #all = new Map<string, Shut>()

  constructor(options: ShutDestinationsOptions) {
    this.#options = options
  }

  /** Why rows to the destination are not to be sent now; undefined: they are. */
  why(destination: string): Why | undefined {
    if (this.#all.size === 0) return undefined
    const shut = this.#all.get(destination)
    return shut === undefined || shut.open ? undefined : shut.why
  }

  /** A row was refused that was not part of a try. */
  refused(destination: string, why: Why): void {
    const shut = this.#of(destination, why)
    if (shut.open) this.#close(shut)
    shut.why = why
    this.#warn(destination, shut)
  }

  /** Rows are known to be put off: tried as soon as can be. */
  tryNow(destination: string, why: Why): void {
    const shut = this.#of(destination, why)
    if (shut.underWay === 0) shut.retryAt = 0
  }

  /** All that are shut for this reason are tried as soon as can be. */
  tryAll(putOff: string): void {
    for (const shut of this.#all.values())
      if (shut.why.putOff === putOff && shut.underWay === 0) shut.retryAt = 0
  }

  /** The destination to try now, and with how many rows. */
  due(now: number): { destination: string; rows: number } | undefined {
    for (const [destination, { underWay, retryAt, rows }] of this.#all)
      if (underWay === 0 && retryAt <= now) return { destination, rows }
    return undefined
  }

  /** When the next is due, by performance.now(). */
  get nextAt(): number {
    let next = Infinity
    for (const { underWay, retryAt } of this.#all.values())
      if (underWay === 0) next = Math.min(next, retryAt)
    return next
  }

  /**
   * A try begins with so many rows; with none, nothing is put off any more.
   * @param more whether others are put off, too
   */
  began(destination: string, rows: number, more: boolean): void {
    const shut = this.#all.get(destination)
    if (!shut) return
    if (rows === 0) {
      this.#all.delete(destination)
      if (!shut.open) this.#tellOpened(destination, shut)
      return
    }
    Object.assign(shut, { underWay: rows, tried: rows, took: 0, more })
  }

  /** A row of the try has ended. */
  landed(destination: string, landing: Landing, why?: Why): void {
    const shut = this.#all.get(destination)
    if (!shut || shut.underWay === 0) return
    if (landing === 'accepted') shut.took++
    if (landing === 'refused') {
      if (why) shut.why = why
      shut.open = false
      this.#warn(destination, shut)
    }
    if (--shut.underWay === 0) this.#ended(destination, shut)
  }

  #ended(destination: string, shut: Shut): void {
    if (shut.took === shut.tried) {
      if (!shut.open && !shut.more) {
        shut.open = true
        this.#tellOpened(destination, shut)
      }
      shut.failures = 0
      shut.rows = Math.min(MOST, shut.rows * GROWTH)
      shut.retryAt = 0
      return
    }
    // A queue that takes some at a time is as slow as its consumer: it is asked as often as that.
    if (shut.took > 0) shut.failures = 0
    this.#close(shut)
  }

  #close(shut: Shut): void {
    shut.open = false
    shut.failures++
    shut.rows = FIRST
    shut.retryAt = performance.now() + backoff(shut.failures, RETRY_MIN_MS, RETRY_MAX_MS)
  }

  #of(destination: string, why: Why): Shut {
    let shut = this.#all.get(destination)
    if (!shut) {
      shut = {
        why,
        warned: false,
        open: false,
        failures: 0,
        retryAt: 0,
        rows: FIRST,
        underWay: 0,
        tried: 0,
        took: 0,
        more: false
      }
      this.#close(shut)
      this.#all.set(destination, shut)
    }
    return shut
  }

  #warn(destination: string, shut: Shut): void {
    if (shut.warned) return
    shut.warned = true
    this.#options.shut(destination, shut.why)
  }

  #tellOpened(destination: string, shut: Shut): void {
    if (shut.warned) this.#options.opened(destination)
    shut.warned = false
  }
}
