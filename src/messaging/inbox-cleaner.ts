import type { DataSource } from 'typeorm'
import type { Worker } from './worker.ts'
import { DELETE_OLD, DELETED_DAYS } from './dead-letter-deleted.ts'
import type { Log } from './log.ts'
import { Loop } from './loop.ts'

/** Rows deleted in one statement: few enough that nobody waits for it. */
const BATCH = 2000
/** Between two batches, and between two rounds, ms. */
const PAUSE_MS = 50
const ROUND_MS = 600_000
/** The first round, ms after the start: a start has better things to do. */
const FIRST_MS = 30_000

// Oldest first by the index on the age; copies of a service share the work.
const DELETE = `
  delete from inbox where ctid = any(array(
    select ctid from inbox where handled_at < now() - $1 * interval '1 day' order by handled_at limit ${BATCH} for update skip locked))`

// A process that died and a message that was handled elsewhere leave such a row behind.
const DELETE_UNFINISHED = `delete from unfinished where started_at < now() - $1 * interval '1 day'`

/** Forgets what was handled longer ago than a message can still come again, and what operators deleted long ago. */
export class InboxCleaner implements Worker {
  readonly #dataSource: DataSource
  readonly #days: number
  readonly #log: Log
  readonly #loop: Loop

  /** @param days how long the inbox remembers a message */
  constructor(dataSource: DataSource, days: number, log: Log) {
    this.#dataSource = dataSource
    this.#days = days
    this.#log = log
    this.#loop = new Loop({
      round: async () => {
        await this.runOnce()
        return ROUND_MS
      },
      failed: (error) => log.warn({ err: error }, 'Inbox could not be cleaned; trying again'),
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

  /** Deletes what is too old, a batch at a time. Returns how many rows. */
  async runOnce(): Promise<number> {
    let deleted = 0
    for (let last = BATCH; last === BATCH && !this.#loop.stopping; ) {
      ;[, last] = await this.#dataSource.query<[unknown, number]>(DELETE, [this.#days])
      deleted += last
      if (last === BATCH) await this.#loop.rest(PAUSE_MS)
    }
    await this.#dataSource.query(DELETE_UNFINISHED, [this.#days])
    await this.#forgetDeletedLetters()
    if (deleted > 0) this.#log.info({ deleted, days: this.#days }, 'Inbox cleaned')
    return deleted
  }

  async #forgetDeletedLetters(): Promise<void> {
    let forgotten = 0
    for (let last = 1; last > 0 && !this.#loop.stopping; ) {
      ;[, last] = await this.#dataSource.query<[unknown, number]>(DELETE_OLD)
      forgotten += last
      if (last > 0) await this.#loop.rest(PAUSE_MS)
    }
    if (forgotten > 0) this.#log.info({ forgotten, days: DELETED_DAYS }, 'Deleted dead letters forgotten')
  }
}
