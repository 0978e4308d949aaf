import { DatabaseAway } from '../errors/database-away.ts'
import { backoff, type BatchFailure } from '../async/batcher.ts'
import { Thrown } from '../errors/describe.ts'
import type { Message } from '../message/message.ts'
import { NotRetryable } from '../errors/not-retryable.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { isBadData, isConflict, isLockTimeout } from '../postgres/sql.ts'

/**
 * A batch that meets this many conflicts in a row, with a database that answers, has a fault of its
 * own.
 */
const MOST_CONFLICTS = 20
/**
 * After so many failures that look like the database's, it is asked whether it works: if it does,
 * they are the batch's own.
 */
const MOST_OUTAGES = 3

/**
 * What becomes of a message whose handler fails. Conflicts and an absent database are waited out
 * and do not count.
 */
export interface RetryPolicy {
  /**
   * How often it is tried again at once, in this process, with pauses that double from `minMs` to
   * `maxMs`.
   */
  readonly immediate: { readonly times: number; readonly minMs: number; readonly maxMs: number }
  /**
   * When those have failed it leaves the queue and comes again after so many seconds, one entry a
   * time; after the last it is a dead letter.
   */
  readonly redeliverySeconds: readonly number[]
  /**
   * Errors that no retry can mend, besides `NotRetryable` and values that the database cannot
   * store.
   */
  notRetryable?(error: unknown): boolean
}

export const DEFAULT_RETRY: RetryPolicy = {
  immediate: { times: 3, minMs: 50, maxMs: 500 },
  redeliverySeconds: [5, 30, 300]
}

export { NotRetryable } from '../errors/not-retryable.ts'

/**
 * Some messages of a batch can never be handled, and the handler knows which: the others are
 * handled without them, at once.
 */
export class Refused extends NotRetryable {
  override readonly code = 'REFUSED'
  readonly #reasons: ReadonlyMap<Message, Error>

  /** @param reasons why, for each of them: what its dead letter says */
  constructor(reasons: ReadonlyMap<Message, Error>) {
    super([...reasons.values()][0]?.message ?? 'refused')
    this.#reasons = reasons
  }

  reasonFor(message: Message): Error | undefined {
    return this.#reasons.get(message)
  }
}

export function isWorthRetrying(error: Error, { notRetryable }: RetryPolicy): boolean {
  if (error instanceof NotRetryable || isBadData(error)) return false
  try {
    return !notRetryable?.(error instanceof Thrown ? error.thrown : error)
  } catch {
    // It judged something that it did not expect: as it says nothing, the error may pass.
    return true
  }
}

/**
 * What to do with a batch whose transaction failed: wait out what counts for nothing, else find the
 * guilty one. Somebody's lock is waited for once, and then only by those that need it.
 */
export async function waitOrSplit(
  error: Error,
  attempt: number,
  outbox: Outbox
): Promise<BatchFailure> {
  if (isLockTimeout(error)) return attempt === 1 ? { retryAfterMs: backoff(1, 20, 500) } : 'split'
  if (isConflict(error) && attempt <= MOST_CONFLICTS)
    return { retryAfterMs: backoff(attempt, 20, 500) }
  if (!(error instanceof DatabaseAway) || (attempt > MOST_OUTAGES && (await outbox.works())))
    return 'split'
  return { retryAfterMs: backoff(attempt, 100, 5000) }
}
