import { madeProgress } from './progress.ts'

interface Waiting {
  bytes: number
  work(): void
}

/**
 * Shares the event loop out by bytes: JSON is read in one go, and what comes from outside may be
 * made to take long (1 MiB of `{}` takes
 * 80 ms). Others get their turn in between, however much arrives at once.
 */
export class Turns {
  readonly #limit: number
  #spent = 0
  #isScheduled = false
  #waiting: Waiting[] = []

  /** @param limit bytes read in one turn of the event loop; what is larger has one to itself */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** Whether nobody waits and so many bytes may be read now; they are spent then. */
  isFree(bytes: number): boolean {
    if (this.#waiting.length > 0 || this.#spent + bytes > this.#limit) return false
    this.#spend(bytes)
    return true
  }

  /**
   * Calls `work`, which must not throw, in a later turn of the event loop: first come, first
   * served.
   */
  later(bytes: number, work: () => void): void {
    this.#waiting.push({ bytes, work })
    this.#schedule()
  }

  #spend(bytes: number): void {
    this.#spent += bytes
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.#spent = 0
      this.#next()
    })
  }

  #next(): void {
    let served = 0
    for (const { bytes } of this.#waiting) {
      if (this.#spent > 0 && this.#spent + bytes > this.#limit) break
      this.#spent += bytes
      served++
    }
    for (const { work } of this.#waiting.splice(0, served)) {
      work()
      madeProgress()
    }
    if (this.#spent > 0 || this.#waiting.length > 0) this.#schedule()
  }
}

/**
 * Bytes of messages that are read in one turn of the event loop, by all endpoints of the process:
 * 20 ms at the worst.
 */
export const messageTurns = new Turns(256 * 1024)
