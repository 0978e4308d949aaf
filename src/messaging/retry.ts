import { isBadData } from './sql.ts'

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

/** A failure that no retry can mend: the message becomes a dead letter at once. */
export class NotRetryable extends Error {
  override readonly name: string = 'NotRetryable'
}

export function isWorthRetrying(error: unknown, { notRetryable }: RetryPolicy): boolean {
  return !(error instanceof NotRetryable || isBadData(error) || notRetryable?.(error))
}
