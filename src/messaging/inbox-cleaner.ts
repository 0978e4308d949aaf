import type { DataSource } from 'typeorm'
import { backoff } from './batcher.ts'
import type { Worker } from './context.ts'
import type { Log } from './log.ts'
import { Signal } from './signal.ts'

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

/** Forgets what was handled longer ago than a message can still come again. */
export class InboxCleaner implements Worker {
  readonly #dataSource: DataSource
  readonly #days: number
  readonly #log: Log
  readonly #wake = new Signal()
  #stopping = false
  #running: Promise<void> | undefined

  /** @param days how long the inbox remembers a message */
  constructor(dataSource: DataSource, days: number, log: Log) {
    this.#dataSource = dataSource
    this.#days = days
    this.#log = log
  }

  start(): void {
    this.#running ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping = true
    this.#wake.give()
    await this.#running
  }

  /** Deletes what is too old, a batch at a time. Returns how many rows. */
  async runOnce(): Promise<number> {
    let deleted = 0
    for (let last = BATCH; last === BATCH && !this.#stopping; ) {
      ;[, last] = await this.#dataSource.query<[unknown, number]>(DELETE, [this.#days])
      deleted += last
      if (last === BATCH) await this.#wake.wait(PAUSE_MS)
    }
    await this.#dataSource.query(DELETE_UNFINISHED, [this.#days])
    if (deleted > 0) this.#log.info({ deleted, days: this.#days }, 'Inbox cleaned')
    return deleted
  }

  async #run(): Promise<void> {
    await this.#wake.wait(FIRST_MS)
    for (let failures = 0; !this.#stopping; ) {
      try {
        await this.runOnce()
        failures = 0
      } catch (error) {
        failures++
        this.#log.warn({ err: error }, 'Inbox could not be cleaned; trying again')
      }
      if (!this.#stopping) await this.#wake.wait(failures > 0 ? backoff(failures, 1000, ROUND_MS) : ROUND_MS)
    }
  }
}
