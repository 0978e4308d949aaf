import type { Log } from '../async/log.ts'
import { NotRetryable } from '../errors/not-retryable.ts'
import type { Outbox } from '../outbox/outbox.ts'
import type { Received } from './received.ts'
import { DEADLY_STARTS, forgetStart, recordStart, unfinishedStarts } from '../inbox/unfinished.ts'
import { atMost } from '../async/timeout.ts'

/** How long a stop may take to record what it gives back, ms. */
const FORGET_MS = 2000

/** Tells which redelivered messages a process may have died of. */
export class Suspects {
  readonly #endpoint: string
  readonly #outbox: Outbox
  readonly #log: Log
  /** Redelivered messages that this process has recorded as begun. */
  readonly #begun = new Set<string>()

  constructor(endpoint: string, outbox: Outbox, log: Log) {
    this.#endpoint = endpoint
    this.#outbox = outbox
    this.#log = log
  }

  /**
   * A process had these messages before and did not acknowledge them. Each is recorded as begun.
   * @param again the redelivered ones of the batch
   * @returns those that were begun before and not finished, in a batch of one too often
   */
  async among(
    batch: readonly Received[],
    again: readonly Received[]
  ): Promise<ReadonlySet<Received>> {
    const unknown = again.filter(({ message }) => !this.#begun.has(message.messageId))
    if (unknown.length === 0) return new Set()
    const fewer = batch.length === 1 ? DEADLY_STARTS : 1
    const begins = await this.#outbox.transaction(async (tx) => {
      const starts = await unfinishedStarts(tx, this.#endpoint, idsOf(unknown))
      const begun = unknown.filter(({ message }) => (starts.get(message.messageId) ?? 0) < fewer)
      await recordStart(tx, this.#endpoint, idsOf(begun))
      return new Set(begun)
    })
    for (const { message } of begins) this.#begun.add(message.messageId)
    return new Set(unknown.filter((one) => !begins.has(one)))
  }

  ended({ message }: Received): void {
    this.#begun.delete(message.messageId)
  }

  /**
   * What is given back was not finished, but nobody died of it. Bounded: it can do without.
   */
  async forget(): Promise<void> {
    if (this.#begun.size === 0) return
    const forgotten = this.#outbox
      .transaction(async (tx) => forgetStart(tx, this.#endpoint, [...this.#begun]))
      .catch((error: unknown) => {
        this.#log.debug({ err: error }, 'Messages given back stay recorded as begun')
      })
    await atMost(FORGET_MS, forgotten)
  }
}

function idsOf(batch: readonly Received[]): string[] {
  return batch.map(({ message }) => message.messageId)
}

/** The process ended again and again while it handled this message. */
export class DeadlyMessage extends NotRetryable {
  override readonly name = 'DeadlyMessage'
  override readonly code = 'DEADLY_MESSAGE'
  constructor() {
    super(`the process ended ${DEADLY_STARTS + 1} times while this message was being handled`)
  }
}
