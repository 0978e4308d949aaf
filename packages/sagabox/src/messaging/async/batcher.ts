import { setMaxListeners } from 'node:events'
import { asError, describeError } from '../errors/describe.ts'

/**
 * What to do with a batch that failed: give each item up, halve it to find the guilty item, run it
 * again later, or give up those that are known to be guilty and run the others again at once.
 */
export type BatchFailure<T = never> =
  | 'fail'
  | 'split'
  | { retryAfterMs: number }
  | { guilty: ReadonlySet<T> }

export interface BatcherOptions<T> {
  /** Most items in one batch. */
  limit: number
  /** Does a batch; throws when none of it took effect. */
  work(items: T[]): Promise<void>
  /**
   * @param attempt how often this batch has failed, from 1
   * @param items the batch
   */
  onError(
    error: Error,
    attempt: number,
    items: readonly T[]
  ): BatchFailure<T> | Promise<BatchFailure<T>>
  /** Items that are never worked on together with others. */
  alone?(item: T): boolean
  /** Receives an item that failed for good, alone or with its batch. */
  failed(item: T, error: Error): void
}

/**
 * Collects what arrives while it is busy into the next batch: one item alone when idle, `limit`
 * under load, and no timer in between.
 */
export class Batcher<T> {
  readonly #options: BatcherOptions<T>
  #waiting: T[] = []
  #running: Promise<void> | undefined
  #stopped = new AbortController()

  constructor(options: BatcherOptions<T>) {
    this.#options = options
  }

  push(item: T): void {
    if (this.#stopped.signal.aborted) return this.#options.failed(item, new Error('stopped'))
    this.#waiting.push(item)
    this.#running ??= this.#drain()
  }

  /** Gives back what has not begun; the running batch goes on. */
  takeWaiting(): T[] {
    return this.#waiting.splice(0)
  }

  /** Resolves when the running batch has ended; gives back what had not begun. */
  async stop(): Promise<T[]> {
    this.#stopped.abort()
    await this.#running
    return this.#waiting.splice(0)
  }

  /**
   * Resolves when all that was pushed has been worked on; for ever later when the work is retried
   * for ever.
   */
  async idle(): Promise<void> {
    await this.#running
  }

  async #drain(): Promise<void> {
    // What arrives in the same turn of the event loop belongs to the first batch.
    await new Promise(setImmediate)
    while (this.#waiting.length > 0 && !this.#stopped.signal.aborted) {
      await this.#run(this.#waiting.splice(0, this.#batchSize()))
    }
    this.#running = undefined
  }

  #batchSize(): number {
    const { limit, alone } = this.#options
    if (!alone) return limit
    const first = this.#waiting.findIndex((item) => alone(item))
    return first < 0 ? limit : Math.min(limit, Math.max(1, first))
  }

  async #run(items: T[]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#options.work(items)
      } catch (thrown) {
        const error = asError(thrown)
        const failure = await this.#judge(error, attempt, items)
        if (failure === 'split' && items.length > 1) {
          const middle = items.length >> 1
          await this.#run(items.slice(0, middle))
          return this.#run(items.slice(middle))
        }
        if (typeof failure === 'string' || this.#stopped.signal.aborted)
          return this.#fail(items, error)
        if ('guilty' in failure) {
          this.#fail(
            items.filter((item) => failure.guilty.has(item)),
            error
          )
          const others = items.filter((item) => !failure.guilty.has(item))
          return others.length > 0 ? this.#run(others) : undefined
        }
        await pause(failure.retryAfterMs, this.#stopped.signal)
      }
    }
  }

  /** Whoever judges a failure must not end the loop by failing itself. */
  async #judge(error: Error, attempt: number, items: readonly T[]): Promise<BatchFailure<T>> {
    try {
      return await this.#options.onError(error, attempt, items)
    } catch {
      return 'split'
    }
  }

  #fail(items: readonly T[], error: Error): void {
    for (const item of items) {
      try {
        this.#options.failed(item, error)
      } catch (reason) {
        process.emitWarning(
          `An item that failed could not be given up: ${describeError(reason).text}`
        )
      }
    }
  }
}

/** Waits, but not past the signal. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    // Any number may wait for one signal: Node would take more than ten for a leak.
    setMaxListeners(0, signal)
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}

/** Full-jitter exponential backoff: between half and all of `minMs * 2^(attempt-1)`, capped. */
export function backoff(attempt: number, minMs: number, maxMs: number): number {
  const ceiling = Math.min(maxMs, minMs * 2 ** Math.min(attempt - 1, 30))
  return ceiling / 2 + (Math.random() * ceiling) / 2
}
