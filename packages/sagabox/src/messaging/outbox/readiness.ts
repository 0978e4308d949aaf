import { orTimeout } from '../async/timeout.ts'
import type { Outbox } from './outbox.ts'

/** An answer serves all who ask within so many ms. */
const FRESH_MS = 1000
/** How long the database may take, ms. */
const ANSWER_MS = 5000

/** Whether the database does what work needs: a session that may write, and has room to. */
export class Readiness {
  readonly #outbox: Outbox
  #asked: Promise<string | undefined> | undefined
  #askedAt = -Infinity

  constructor(outbox: Outbox) {
    this.#outbox = outbox
  }

  /**
   * Undefined: nothing keeps it from working. One that failed alone, as a session does that a
   * restart has ended, is asked once more.
   */
  problem(): Promise<string | undefined> {
    // What work has met counts, also when a small question finds an answer: a full disk takes small
    // rows for a while.
    const { problem } = this.#outbox.outage
    if (problem !== undefined) {
      void this.#ask()
      return Promise.resolve(problem)
    }
    return this.#ask()
  }

  #ask(): Promise<string | undefined> {
    if (!this.#asked || performance.now() - this.#askedAt > FRESH_MS) {
      this.#askedAt = performance.now()
      this.#asked = this.#look()
    }
    return this.#asked
  }

  async #look(): Promise<string | undefined> {
    try {
      const answer = async () => (await this.#outbox.problem()) && this.#outbox.problem()
      return await orTimeout(ANSWER_MS, 'The database did not take a row', answer())
    } catch (error) {
      return (error as Error).message
    }
  }
}
