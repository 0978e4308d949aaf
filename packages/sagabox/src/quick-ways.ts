import type { Log } from './messaging/async/log.ts'

/**
 * A quicker way that reaches into another library, with a plain way beside it. A probe looks
 * whether that library still does what the quick way needs, whatever its version; where it does
 * not, the plain way is gone.
 */
export class QuickWay {
  readonly name: string
  readonly library: string
  /** The switch: tests go the plain way by it. */
  isSwitchedOff = false
  #isProbed = false
  #problem: string | undefined
  #isSaid = false

  constructor(name: string, library: string) {
    this.name = name
    this.library = library
  }

  get isOpen(): boolean {
    return !this.isSwitchedOff && this.#problem === undefined
  }

  /**
   * Probes once in a process.
   * @param look throws what is not as expected
   */
  probe(look: () => void): this {
    if (this.#isProbed || this.isSwitchedOff) return this
    this.#isProbed = true
    try {
      look()
    } catch (error) {
      this.close(error)
    }
    return this
  }

  /** The plain way is gone from now on. */
  close(found: unknown): void {
    this.#problem ??= found instanceof Error ? found.message : String(found)
  }

  /** Says so in one line a process when the plain way is gone because of the other library. */
  tell(log: Pick<Log, 'warn'>): void {
    if (this.#problem === undefined || this.#isSaid) return
    this.#isSaid = true
    log.warn(
      { way: this.name, library: this.library, reason: this.#problem },
      `${this.library} is not as expected: the plain way is gone instead of ${this.name}, and slower`
    )
  }
}

/** Several prepared statements under one Sync: messaging/postgres/one-sync.ts. */
export const ONE_SYNC = new QuickWay('one-sync', 'pg')
/** Frames of published messages by hand: messaging/rabbitmq/frames.ts. */
export const FRAMES = new QuickWay('frames', 'amqplib')
/** Collected writes and undecodable properties: messaging/rabbitmq/amqplib-patches.ts. */
export const AMQPLIB_PATCHES = new QuickWay('amqplib-patches', 'amqplib')
/** Planned transitions: saga/machine/plan.ts. */
export const PLANS = new QuickWay('plans', 'xstate')

export const QUICK_WAYS: readonly QuickWay[] = [ONE_SYNC, FRAMES, AMQPLIB_PATCHES, PLANS]
