import type { Database } from './database.ts'
import type { Log } from '../async/log.ts'
import { Loop } from '../async/loop.ts'
import type { Worker } from '../async/worker.ts'

/** Between two batches, and between two rounds, ms. */
const PAUSE_MS = 50
const ROUND_MS = 600_000
/** The first round, ms after the start: a start has better things to do. */
const FIRST_MS = 30_000

/** Rows of one table that nobody asks for any more. */
export interface OldRows {
  /** For the log: `inbox rows`. */
  readonly what: string
  /** How long they are kept, days. */
  readonly days: number
  /**
   * Deletes a batch of those that are older than `$1` days, few enough that nobody waits for it.
   */
  readonly delete: string
}

/** Deletes what is too old, a batch at a time; copies of a service share the work. */
export class OldRowsCleaner implements Worker {
  readonly #database: Database
  readonly #kinds: readonly OldRows[]
  readonly #log: Log
  readonly #loop: Loop

  constructor(database: Database, kinds: readonly OldRows[], log: Log) {
    this.#database = database
    this.#kinds = kinds
    this.#log = log
    this.#loop = new Loop({
      round: async () => {
        await this.runOnce()
        return ROUND_MS
      },
      failed: (error) => log.warn({ err: error }, 'Old rows could not be deleted; trying again'),
      minMs: 1000,
      maxMs: ROUND_MS,
      firstMs: FIRST_MS
    })
  }

  start(): void {
    this.#loop.start()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** Deletes all that is too old. Returns how many rows. */
  async runOnce(): Promise<number> {
    let all = 0
    for (const { what, days, delete: sql } of this.#kinds) {
      let deleted = 0
      for (let last = 1; last > 0 && !this.#loop.stopping;) {
        last = (await this.#database.own(sql, [days])).rowCount ?? 0
        deleted += last
        if (last > 0) await this.#loop.rest(PAUSE_MS)
      }
      if (deleted > 0) this.#log.info({ what, deleted, days }, 'Old rows deleted')
      all += deleted
    }
    return all
  }
}
