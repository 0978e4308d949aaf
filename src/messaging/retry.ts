import { backoff, type BatchFailure } from './batcher.ts'
import { NotRetryable } from './not-retryable.ts'
import type { Outbox } from './outbox.ts'
import { isAmbiguous, isBadData, isConflict, isUnavailable } from './sql.ts'

/** A batch that meets this many conflicts or timeouts in a row, with a database that answers, has a fault of its own. */
const MOST_CONFLICTS = 20
const MOST_TIMEOUTS = 3

/** What becomes of a message whose handler fails. Conflicts and an absent database are waited out and do not count. */
export interface RetryPolicy {
  /** How often it is tried again at once, in this process, with pauses that double from `minMs` to `maxMs`. */
  readonly immediate: { readonly times: number; readonly minMs: number; readonly maxMs: number }
  /** When those have failed it leaves the queue and comes again after so many seconds, one entry a time; after the last it is a dead letter. */
  readonly redeliverySeconds: readonly number[]
  /** Errors that no retry can mend, besides `NotRetryable` and values that the database cannot store. */
  notRetryable?(error: unknown): boolean
}

export const DEFAULT_RETRY: RetryPolicy = { immediate: { times: 3, minMs: 50, maxMs: 500 }, redeliverySeconds: [5, 30, 300] }

export { NotRetryable }

export function isWorthRetrying(error: unknown, { notRetryable }: RetryPolicy): boolean {
  return !(error instanceof NotRetryable || isBadData(error) || notRetryable?.(error))
}

/** What to do with a batch of messages whose transaction failed: wait out what counts for nothing, else find the guilty one. */
export async function waitOrSplit(error: unknown, attempt: number, outbox: Outbox): Promise<BatchFailure> {
  if (isConflict(error) && attempt <= MOST_CONFLICTS) return { retryAfterMs: backoff(attempt, 20, 500) }
  if (!isUnavailable(error) || (isAmbiguous(error) && attempt > MOST_TIMEOUTS && (await answers(outbox)))) return 'split'
  return { retryAfterMs: backoff(attempt, 100, 5000) }
}

/** Whether the database takes a transaction now. */
async function answers(outbox: Outbox): Promise<boolean> {
  return outbox.transaction(async () => {}).then(
    () => true,
    () => false
  )
}
