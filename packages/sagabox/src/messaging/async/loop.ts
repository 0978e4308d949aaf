import { DatabaseAway } from '../errors/database-away.ts'
import { backoff } from './batcher.ts'
import type { Worker } from './worker.ts'
import { describeError } from '../errors/describe.ts'
import { Signal } from './signal.ts'

export interface LoopOptions {
  /** Does what is to be done now. Returns how long to rest, ms: 0 when there is more. */
  round(): Promise<number>
  /**
   * Told why a round failed, once for as long as it fails for the same reason; it is done again
   * after a pause that grows from `minMs` to `maxMs`.
   */
  failed(error: unknown): void
  minMs: number
  maxMs: number
  /** Rest before the first round, ms. */
  firstMs?: number
}

/**
 * Does rounds until it is stopped, with a rest between them that ends when there is a reason to
 * look.
 */
export class Loop implements Worker {
  readonly #options: LoopOptions
  readonly #wake = new Signal()
  #stopping = false
  #running: Promise<void> | undefined

  constructor(options: LoopOptions) {
    this.#options = options
  }

  get stopping(): boolean {
    return this.#stopping
  }

  start(): void {
    this.#running ??= this.#run()
  }

  wake(): void {
    this.#wake.give()
  }

  /** Resolves when the round that runs has ended. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#wake.give()
    await this.#running
  }

  /** A rest within a round, which a stop ends. */
  async rest(ms: number): Promise<void> {
    if (ms > 0 && !this.#stopping) await this.#wake.wait(ms)
  }

  async #run(): Promise<void> {
    const { round, failed, minMs, maxMs, firstMs = 0 } = this.#options
    await this.rest(firstMs)
    let told: string | undefined
    for (let failures = 0; !this.#stopping;) {
      try {
        const ms = await round()
        failures = 0
        told = undefined
        await this.rest(ms)
      } catch (error) {
        failures++
        const { text } = describeError(error)
        // That the database is away, and that it is back, is said for all.
        if (text !== told && !(error instanceof DatabaseAway)) failed(error)
        told = text
        await this.rest(backoff(failures, minMs, maxMs))
      }
    }
  }
}
