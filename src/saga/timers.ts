import type { Log } from '../messaging/log.ts'
import { Loop } from '../messaging/loop.ts'
import type { Outbox } from '../messaging/outbox.ts'
import type { SagaHost } from './host.ts'
import { untilNextTimer } from './tables.ts'

/** Instances moved in one transaction. */
const BATCH = 100
/** Longest sleep, ms: a timer set by another process is noticed at the latest after this. */
const POLL_MS = 1000
/** A look is repeated after this many times its own duration: it gets slow while somebody's open transaction keeps dead rows. */
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
      failed: (error) => log.warn({ err: error, saga: host.definition.name }, 'Timers could not be fired; trying again'),
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
    const began = performance.now()
    return this.#outbox.transaction(async (tx) => {
      const { due, messages, failed } = await this.#host.fireDue(tx, BATCH)
      this.#outbox.add(tx, messages)
      for (const { sagaId, error } of failed) this.#log.error({ err: error, saga: this.#host.definition.name, sagaId }, 'The machine cannot take this saga’s timer; it is tried again in a minute')
      if (due === BATCH) return 0
      const next = await untilNextTimer(tx, this.#host.definition.name)
      const rest = due === 0 ? REST * (performance.now() - began) : 0
      return Math.max(Math.min(POLL_MS, next ?? POLL_MS), rest, 10)
    })
  }
}
