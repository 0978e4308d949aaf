import type { BodyOf, Contract, Message } from '../message/message.ts'
import { madeProgress } from '../async/progress.ts'
import type { RetryPolicy } from '../inbox/retry.ts'
import type { Tx } from '../postgres/sql.ts'

/**
 * Handles messages of some contracts: `handle` gets them in order of arrival, does its work in `tx`
 * and returns the messages to send. After a conflict, or when a message was a copy, the endpoint
 * rolls `tx` back and calls it again: what it does outside `tx` must bear being done twice.
 */
export interface Handler {
  readonly contracts: readonly Contract[]
  handle(messages: Message[], tx: Tx): Promise<Message[]>
  /**
   * Called after the commit. It may be lost in a crash, so it may only hurry what happens anyway.
   * @param messages the very list that `handle` was given: several batches may be under way at once
   */
  committed?(messages: readonly Message[]): void
  /** Where it differs from the endpoint's. */
  readonly retry?: Partial<RetryPolicy>
}

/** Declares a handler of one contract. */
export function handle<C extends Contract>(
  contract: C,
  handler: (messages: Message<C>[], tx: Tx) => Promise<Message[]>,
  options: Pick<Handler, 'committed' | 'retry'> = {}
): Handler {
  return { contracts: [contract], handle: handler, ...options }
}

/** Adapts code that handles one message at a time. */
export function each<C extends Contract>(
  handler: (body: BodyOf<C>, message: Message<C>, tx: Tx) => Promise<Message[]>
): (messages: Message<C>[], tx: Tx) => Promise<Message[]> {
  return async (messages, tx) => {
    const out: Message[] = []
    for (const message of messages) {
      out.push(...(await handler(message.body, message, tx)))
      madeProgress()
    }
    return out
  }
}
