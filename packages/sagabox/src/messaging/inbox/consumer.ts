import { DatabaseAway } from '../errors/database-away.ts'
import { backoff, pause, type BatchFailure } from '../async/batcher.ts'
import type { Log } from '../async/log.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { waitOrSplit } from './retry.ts'
import type { Subscription } from '../transport/transport.ts'

export interface ConsumerOptions {
  endpoint: string
  outbox: Outbox
  log: Log
  subscribe(): Subscription[]
  /** Gives back what has been handed out and is not being worked on. */
  giveBack(): void
  /** The database works again, and messages are about to come. */
  resume?(): Promise<void>
}

/**
 * Takes messages, but not while the database has been away for long: what is held then goes back to
 * the queue, once. Held on, it would run into the broker's own limit of time; given back at each
 * failure, into its limit of deliveries.
 */
export class Consumer {
  readonly #options: ConsumerOptions
  readonly #stopping = new AbortController()
  #subscriptions: Subscription[] = []
  #interruption: Promise<void> | undefined
  #isStarted = false
  #isPaused = false

  constructor(options: ConsumerOptions) {
    this.#options = options
  }

  start(): void {
    this.#isStarted = true
    if (!this.#isPaused) this.#subscriptions = this.#options.subscribe()
  }

  /** Takes nothing until `resume`; resolves when what was handed out is settled. */
  async pause(): Promise<void> {
    this.#isPaused = true
    await this.#letGo()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    if (this.#isStarted && !this.givesBack) this.#subscriptions = this.#options.subscribe()
  }

  /** Aborted when it is stopped. */
  get stopping(): AbortSignal {
    return this.#stopping.signal
  }

  /**
   * What is handed out is to be given back: the process stops, the endpoint is paused, or the
   * database has been away for long.
   */
  get givesBack(): boolean {
    return this.#isPaused || this.#stopping.signal.aborted || this.#interruption !== undefined
  }

  /**
   * What becomes of a batch that failed: a long outage gives everything back to the queue; else see
   * waitOrSplit.
   */
  async judge(error: Error, attempt: number): Promise<BatchFailure> {
    const { outbox } = this.#options
    if (!(error instanceof DatabaseAway && outbox.outage.isLong)) {
      return waitOrSplit(error, attempt, outbox)
    }
    this.#interrupt()
    return 'fail'
  }

  /** Deliveries end at once; resolves when what was handed out is settled. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all([
      ...this.#subscriptions.map((subscription) => subscription.cancel()),
      this.#interruption
    ])
  }

  /** Takes nothing until the database works again. */
  #interrupt(): void {
    if (this.#stopping.signal.aborted) return
    this.#interruption ??= this.#waitForDatabase().finally(() => (this.#interruption = undefined))
  }

  async #waitForDatabase(): Promise<void> {
    const { endpoint, outbox, log, subscribe, resume } = this.#options
    const seconds = Math.round(outbox.outage.lastedMs / 1000)
    log.warn(
      { endpoint, seconds },
      'The database has been away for long: messages stay in their queue until it works again'
    )
    await this.#letGo()
    for (let attempt = 1; !this.#stopping.signal.aborted && !(await outbox.works()); attempt++)
      await pause(backoff(attempt, 250, 5000), this.#stopping.signal)
    if (this.#stopping.signal.aborted) return
    await resume?.()
    if (!this.#isPaused) this.#subscriptions = subscribe()
    log.info({ endpoint }, 'The database works again: messages are taken')
  }

  /** Deliveries end at once, and what was handed out and has not begun goes back. */
  async #letGo(): Promise<void> {
    const cancelled = this.#subscriptions.map((subscription) => subscription.cancel())
    this.#subscriptions = []
    this.#options.giveBack()
    await Promise.all(cancelled)
  }
}
