import type { Received } from './received.ts'

/**
 * For so long after a lock timeout, ms, the main lane waits for locks as briefly as this, ms: what
 * needs the lock waits aside, and nobody behind it.
 */
const BLOCKED_MS = 30_000
const BRIEF_LOCK_MS = 50
/** How many wait aside in this process; more come again from the outbox. */
const MOST_ASIDE = 100

/** What an endpoint knows of the locks in its way: of all its handlers, for they share tables. */
export class LockWaits {
  /** By performance.now(). */
  #briefUntil = 0
  readonly #aside = new Set<Received>()

  /** A lock was not to be had in time. */
  timedOut(): void {
    this.#briefUntil = performance.now() + BLOCKED_MS
  }

  /** How long the main lane waits for a lock; undefined: as long as everybody. */
  get mainLockMs(): number | undefined {
    return performance.now() < this.#briefUntil ? BRIEF_LOCK_MS : undefined
  }

  /** Takes it among those that wait aside. False: they are too many. */
  admit(received: Received): boolean {
    if (!this.#aside.has(received) && this.#aside.size >= MOST_ASIDE) return false
    this.#aside.add(received)
    return true
  }

  ended(received: Received): void {
    this.#aside.delete(received)
  }

  /** All that wait have been given back. */
  clear(): void {
    this.#aside.clear()
  }
}
