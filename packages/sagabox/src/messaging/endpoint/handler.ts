import { causedBy, type BodyOf, type Contract, type Message } from '../message/message.ts'
import { tokenOf } from '../message/later.ts'
import { cancelScheduled } from '../outbox/schedule.ts'
import { madeProgress } from '../async/progress.ts'
import { NotRetryable, type RetryPolicy } from '../inbox/retry.ts'
import { sendingAs, type Tx } from '../postgres/sql.ts'

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

/** What a handler is given beside the body. */
export interface Handling<C extends Contract = Contract> {
  /** The open transaction: what is written in it commits together with what is returned. */
  readonly tx: Tx
  /** The message with its ids and headers. */
  readonly message: Message<C>
  /** Cancels a message that waits to be sent later: see Outbox.cancel. */
  cancel(token: string): Promise<boolean>
}

/** What a handler answers: messages to send, or nothing. */
export type Returned = Message | readonly Message[] | void

/**
 * Declares a handler of one contract, called once a message. What it writes in `tx` and the messages
 * that it returns commit together; then the message is acknowledged. It is called again when the
 * transaction could not be committed, so what leaves no trace in `tx` must bear that.
 * @param handler returns what to send: a message, several, or nothing. They continue the
 * conversation of the message that is handled
 */
export function handle<C extends Contract>(
  contract: C,
  handler: (body: BodyOf<C>, handling: Handling<C>) => Promise<Returned> | Returned,
  options: Pick<Handler, 'committed' | 'retry'> = {}
): Handler {
  return handleBatch(
    contract,
    async (messages, tx) => {
      const out: Message[] = []
      const cancel = (token: string) => cancelScheduled(tx, tokenOf(token))
      for (const message of messages) {
        const handling = { tx: sendingAs(tx, (one) => causedBy(one, message)), message, cancel }
        const returned = (await handler(message.body, handling)) ?? []
        const sent = Array.isArray(returned) ? (returned as Message[]) : [returned as Message]
        if (contract.response) mustAnswer(contract, message, sent)
        out.push(...sent.map((one) => causedBy(one, message)))
        madeProgress()
      }
      return out
    },
    options
  )
}

/** The handler of a request returned no answer to somebody who waits for it. */
export class NoAnswer extends NotRetryable {
  override readonly name = 'NoAnswer'
  override readonly code = 'NO_ANSWER'
}

function mustAnswer(contract: Contract, { asked }: Message, sent: readonly Message[]): void {
  const answers = sent.filter((one) => one.contract === contract.response)
  if (!asked?.answerTo || answers.length === 1) return
  throw new NoAnswer(
    `The handler of ${contract.name} returned ${answers.length} of ${contract.response!.name}; expected one`
  )
}

/**
 * Declares a handler of one contract for hot paths, called with all messages of a transaction.
 * @param handler gets them in order of arrival, several for one business transaction possible
 */
export function handleBatch<C extends Contract>(
  contract: C,
  handler: (messages: Message<C>[], tx: Tx) => Promise<Message[]>,
  options: Pick<Handler, 'committed' | 'retry'> = {}
): Handler {
  return { contracts: [contract], handle: handler, ...options }
}
