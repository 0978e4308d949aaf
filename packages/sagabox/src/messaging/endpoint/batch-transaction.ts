import { DatabaseAway } from '../errors/database-away.ts'
import { markHandled } from '../dead-letters/letter.ts'
import type { Endings } from './endings.ts'
import { attemptOf, replayedIn } from '../dead-letters/headers.ts'
import type { Handler } from './handler.ts'
import { recordNew, recordAsNew, isAnyRecorded, type Recorded } from '../inbox/inbox.ts'
import type { Message } from '../message/message.ts'
import type { Outbox } from '../outbox/outbox.ts'
import type { Received } from './received.ts'
import type { Tx } from '../postgres/sql.ts'
import { forgetStart } from '../inbox/unfinished.ts'

/** One transaction of inbox, handler and outbox. */
export class BatchTransaction {
  readonly #handler: Handler
  readonly #endpoint: string
  readonly #outbox: Outbox
  readonly #endings: Endings

  constructor(handler: Handler, endpoint: string, outbox: Outbox, endings: Endings) {
    this.#handler = handler
    this.#endpoint = endpoint
    this.#outbox = outbox
    this.#endings = endings
  }

  /**
   * Takes the whole batch to be new, so that its first statements need not wait for the inbox's
   * answer. Nearly every batch is: of a copy, the broker mostly says that it was delivered before.
   * @returns what was handled; undefined when it was not new, and nothing has been done
   */
  async handleAsNew(
    batch: readonly Received[],
    lockTimeoutMs: number | undefined
  ): Promise<Message[] | undefined> {
    const endpoint = this.#endpoint
    const outbox = this.#outbox
    const messages = batch.map(({ message }) => message)
    const ids = messages.map(({ messageId }) => messageId)
    try {
      await outbox.transaction(
        async (tx) => {
          recordAsNew(tx, endpoint, messages)
          outbox.add(tx, await this.#handler.handle(messages, tx))
        },
        { lockTimeoutMs }
      )
      return messages
    } catch (error) {
      if (error instanceof DatabaseAway) throw error
      if (!(await outbox.transaction((tx) => isAnyRecorded(tx, endpoint, ids)))) throw error
      return undefined
    }
  }

  /**
   * Handles what this endpoint has not handled before, and buries what came under the id of
   * something else. Returns what was handled.
   */
  async handleNew(
    batch: readonly Received[],
    lockTimeoutMs: number | undefined
  ): Promise<Message[]> {
    const { messages, reused } = await this.#outbox.transaction(
      async (tx) => {
        const recorded = await recordNew(
          tx,
          this.#endpoint,
          batch.map(({ message }) => message)
        )
        const fresh = [...recorded.fresh]
        if (fresh.length > 0) this.#outbox.add(tx, await this.#handler.handle(fresh, tx))
        this.#settle(tx, batch, recorded)
        return { messages: fresh, reused: recorded.reused }
      },
      { lockTimeoutMs }
    )
    for (const one of batch) {
      const error = reused.get(one.message)
      if (!error) continue
      one.attempts.push(attemptOf(error))
      this.#endings.bury(one, error)
    }
    return messages
  }

  /** Writes down that redelivered messages are finished, and letters sent back are handled. */
  #settle(tx: Tx, batch: readonly Received[], { reused }: Recorded): void {
    if (batch.some(({ delivery }) => delivery.redeliveries > 0)) {
      forgetStart(
        tx,
        this.#endpoint,
        batch.map(({ message }) => message.messageId)
      )
    }
    const letters = batch.filter(
      ({ delivery, message }) => replayedIn(delivery.headers) !== undefined && !reused.has(message)
    )
    if (letters.length === 0) return
    markHandled(
      tx,
      this.#endpoint,
      letters.map(({ delivery, message }) => ({ payload: delivery.payload, message }))
    )
  }
}
