import { DatabaseAway } from '../errors/database-away.ts'
import type { BatchFailure } from '../async/batcher.ts'
import type { Consumer } from '../inbox/consumer.ts'
import type { LockWaits } from './lock-waits.ts'
import type { Received } from './received.ts'
import { Refused } from '../inbox/retry.ts'
import { isLockTimeout } from '../postgres/sql.ts'

/** After the database was seen to work, ms, what looks like an outage is the batch's own. */
const SEEN_TO_WORK_MS = 5000

/** Says what becomes of a batch whose transaction failed. */
export class BatchJudge {
  readonly #consumer: Consumer
  readonly #locks: LockWaits
  /** When the database was last asked and worked, by performance.now(). */
  #seenToWork = -Infinity

  constructor(consumer: Consumer, locks: LockWaits) {
    this.#consumer = consumer
    this.#locks = locks
  }

  async judge(
    error: Error,
    attempt: number,
    batch: readonly Received[]
  ): Promise<BatchFailure<Received>> {
    if (error instanceof Refused && batch.length > 1) {
      const guilty = new Set(batch.filter(({ message }) => error.reasonFor(message)))
      return guilty.size > 0 ? { guilty } : 'split'
    }
    if (isLockTimeout(error)) {
      this.#locks.timedOut()
      return 'split'
    }
    const isOutage = error instanceof DatabaseAway
    if (isOutage && batch.length > 1 && this.#worksLately) return 'split'
    const failure = await this.#consumer.judge(error, attempt)
    if (isOutage && failure === 'split') this.#seenToWork = performance.now()
    return failure
  }

  get #worksLately(): boolean {
    return performance.now() - this.#seenToWork < SEEN_TO_WORK_MS
  }
}
