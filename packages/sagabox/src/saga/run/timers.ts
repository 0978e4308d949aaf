import type { Log } from '../../messaging/async/log.ts'
import { Loop } from '../../messaging/async/loop.ts'
import type { Outbox } from '../../messaging/outbox/outbox.ts'
import { isAmbiguous, isUnavailable } from '../../messaging/postgres/sql.ts'
import type { FailedTimer, SagaHost } from './host.ts'
import { untilNextTimer } from '../store/rows.ts'

/** Instances moved in one transaction. */
const BATCH = 100
/** Longest sleep, ms: a timer set by another process is noticed at the latest after this. */
const POLL_MS = 1000
/**
 * A look is repeated after this many times its own duration: it gets slow while somebody's open
 * transaction keeps dead rows.
 */
const REST = 20

/** Fires a saga's due timers; any number of processes may run one. */
export class TimerLoop {
  readonly #host: SagaHost
  readonly #outbox: Outbox
  readonly #log: Log
  readonly #loop: Loop

  constructor(host: SagaHost, outbox: Outbox, log: Log) {
    this.#host = host
    this.#outbox = outbox
    this.#log = log
    this.#loop = new Loop({
      round: () => this.runOnce(),
      failed: (error) =>
        log.warn(
          { err: error, saga: host.definition.name },
          'Timers could not be fired; trying again'
        ),
      minMs: 200,
      maxMs: 5000
    })
  }

  start(): void {
    this.#loop.start()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** Fires what is due. Returns how many ms may pass before the next look. */
  async runOnce(): Promise<number> {
    try {
      return await this.#fireBatch()
    } catch (error) {
      if (isUnavailable(error) && !isAmbiguous(error)) throw error
      // Somebody may hold a row that one of them needs, or the work of one may be at fault.
      return this.#fireEach()
    }
  }

  async #fireBatch(): Promise<number> {
    const began = performance.now()
    return this.#outbox.transaction(async (tx) => {
      const { due, messages, failed } = await this.#host.fireDue(tx, BATCH)
      this.#outbox.add(tx, messages)
      for (const one of failed) this.#report(one)
      if (due === BATCH) return 0
      const next = await untilNextTimer(tx, this.#host.definition.name)
      const rest = due === 0 ? REST * (performance.now() - began) : 0
      return Math.max(Math.min(POLL_MS, next ?? POLL_MS), rest, 10)
    })
  }

  /** Each in a transaction of its own: what one cannot do holds up none of the others. */
  async #fireEach(): Promise<number> {
    const ids = await this.#outbox.transaction((tx) => this.#host.due(tx, BATCH))
    for (const sagaId of ids) {
      if (this.#loop.stopping) break
      try {
        await this.#outbox.transaction(async (tx) =>
          this.#outbox.add(tx, await this.#host.fireOne(tx, sagaId))
        )
      } catch (error) {
        if (isUnavailable(error) && !isAmbiguous(error)) throw error
        const failed = await this.#outbox.transaction((tx) => this.#host.putOff(tx, sagaId, error))
        if (failed) this.#report(failed)
      }
    }
    return ids.length === BATCH ? 0 : POLL_MS / 10
  }

  /** Once for each reason: it may fail in the same way for days. */
  #report({ sagaId, error, again }: FailedTimer): void {
    if (again) return
    const about = { reason: error, saga: this.#host.definition.name, sagaId }
    this.#log.error(
      about,
      'The machine cannot take this saga’s timer; it is tried again, after 15 minutes at the latest'
    )
  }
}
