import { backoff, Batcher, pause, type BatchFailure } from './batcher.ts'
import { DeadLetterCollector } from './dead-letter-collector.ts'
import { markHandled } from './dead-letter.ts'
import { DeadLetterSender, type Failure } from './dead-letter-sender.ts'
import { EnvelopeReader, UnreadableMessage } from './envelope.ts'
import { attemptOf, attemptsIn, redeliveriesIn, redeliveryHeaders, replayedIn, type FailedAttempt } from './failure.ts'
import type { Handler } from './handler.ts'
import { claim, claimAsNew, isAnyClaimed } from './inbox.ts'
import type { Log } from './log.ts'
import type { Contract, Message } from './message.ts'
import type { Outbox } from './outbox.ts'
import { DEFAULT_RETRY, isWorthRetrying, NotRetryable, waitOrSplit, type RetryPolicy } from './retry.ts'
import { isUnavailable } from './sql.ts'
import type { EndpointTopology } from './topology.ts'
import type { Delivery, Subscription, Transport } from './transport.ts'
import { DEADLY_STARTS, forgetStart, recordStart, unfinishedStarts } from './unfinished.ts'
import { within } from './within.ts'

/**
 * Most messages in one transaction. Database time an order, measured: 2.8 ms alone, 0.42 in tens, 0.16 at a hundred,
 * 0.21 at four hundred.
 */
const BATCH = 100

/** How long a stop may take to record what it gives back, ms. */
const FORGET_MS = 2000

export interface EndpointDefinition {
  name: string
  handlers: readonly Handler[]
  /** Where it differs from DEFAULT_RETRY. */
  retry?: Partial<RetryPolicy>
}

export function endpointTopology({ name, handlers }: EndpointDefinition): EndpointTopology {
  return { name, consumes: handlers.flatMap((handler) => handler.contracts) }
}

export interface EndpointOptions {
  definition: EndpointDefinition
  outbox: Outbox
  transport: Transport
  log: Log
}

/** A message between its delivery and its end. */
interface Received {
  delivery: Delivery
  message: Message
  /** How it failed in this process. */
  attempts: FailedAttempt[]
  /** It has failed, or a process may have died of it: it gets transactions of its own. */
  alone: boolean
  /** It was handled, put off or buried. */
  ended: boolean
}

interface PutOff {
  received: Received
  seconds: number
}

/**
 * Consumes one queue. What arrives while a handler is busy becomes its next batch: one transaction of inbox, handler and
 * outbox, and only after its commit the acknowledgements. A transaction holds one handler's messages, so that handlers
 * never mix their lock orders. Every message ends handled, put off (in the outbox, until it is due) or as a dead letter.
 */
export class Endpoint {
  readonly #options: EndpointOptions
  readonly #reader: EnvelopeReader
  readonly #batchers = new Map<Contract, Batcher<Received>>()
  readonly #puttingOff: Batcher<PutOff>
  readonly #deadLetters: DeadLetterSender
  readonly #collector: DeadLetterCollector
  /** Redelivered messages that this process has recorded as begun. */
  readonly #begun = new Set<string>()
  readonly #stopping = new AbortController()
  #subscription: Subscription | undefined

  constructor(options: EndpointOptions) {
    this.#options = options
    const { definition, transport, log } = options
    this.#reader = new EnvelopeReader(definition.handlers.flatMap((handler) => handler.contracts))
    this.#deadLetters = new DeadLetterSender(definition.name, transport, log)
    this.#collector = new DeadLetterCollector(definition.name, this.#reader, options)
    for (const handler of definition.handlers) {
      const policy = { ...DEFAULT_RETRY, ...definition.retry, ...handler.retry }
      const batcher: Batcher<Received> = new Batcher<Received>({
        limit: BATCH,
        alone: ({ alone }) => alone,
        work: (batch) => this.#work(handler, batch, batcher),
        onError: (error, attempt) => this.#onError(error, attempt),
        failed: (received, error) => this.#failed(received, error, policy, batcher)
      })
      for (const contract of handler.contracts) {
        if (this.#batchers.has(contract)) throw new Error(`Endpoint ${definition.name} has two handlers for ${contract.name}`)
        this.#batchers.set(contract, batcher)
      }
    }
    this.#puttingOff = new Batcher({
      limit: BATCH,
      work: (batch) => this.#putOff(batch),
      onError: (error, attempt) => this.#onError(error, attempt),
      failed: ({ received }, error) => this.#giveBack(received.delivery, error)
    })
  }

  start(): void {
    const { definition, transport } = this.#options
    this.#collector.start()
    this.#subscription = transport.subscribe(definition.name, (delivery) => this.#receive(delivery))
  }

  /** Takes nothing new, finishes the transactions that run, gives the rest back to the queue. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    // Deliveries end at once; the cancel itself waits until all that was handed out is settled below.
    const cancelled = this.#subscription?.cancel()
    for (const batcher of new Set(this.#batchers.values())) for (const { delivery } of await batcher.stop()) delivery.requeue()
    for (const { received } of await this.#puttingOff.stop()) received.delivery.requeue()
    await this.#deadLetters.stop()
    await Promise.all([this.#forgetBegun(), cancelled, this.#collector.stop()])
  }

  /** What is given back was not finished, but nobody died of it. Bounded: it can do without. */
  async #forgetBegun(): Promise<void> {
    if (this.#begun.size === 0) return
    const { definition, outbox, log } = this.#options
    const forgotten = outbox.transaction(async (tx) => forgetStart(tx, definition.name, [...this.#begun])).catch((error: unknown) => log.debug({ err: error }, 'Messages given back stay recorded as begun'))
    await within(FORGET_MS, forgotten)
  }

  #receive(delivery: Delivery): void {
    if (this.#stopping.signal.aborted) return delivery.requeue()
    let message: Message
    try {
      message = this.#reader.read(delivery.payload, delivery.contentType)
    } catch (error) {
      return this.#sendToDeadLetters({ delivery, error, attempts: [attemptOf(error)] })
    }
    this.#batchers.get(message.contract)!.push({ delivery, message, attempts: [], alone: false, ended: false })
  }

  async #work(handler: Handler, received: Received[], batcher: Batcher<Received>): Promise<void> {
    const waiting = received.filter(({ ended }) => !ended)
    const again = waiting.filter(({ delivery }) => delivery.redeliveries > 0)
    const batch = again.length > 0 ? await this.#withoutSuspects(waiting, again, batcher) : waiting
    if (batch.length === 0) return
    const handled = (looksNew(batch) && (await this.#handleAsNew(handler, batch))) || (await this.#handleNew(handler, batch))
    for (const one of batch) if (!one.ended) this.#end(one).ack()
    if (handled) handler.committed?.()
  }

  /**
   * Takes the whole batch to be new, so that its first statements need not wait for the inbox's answer. Nearly every batch is: of a copy, the
   * broker mostly says that it was delivered before.
   * @returns false when it was not, and nothing has been done
   */
  async #handleAsNew(handler: Handler, batch: readonly Received[]): Promise<boolean> {
    const { definition, outbox } = this.#options
    const messages = batch.map(({ message }) => message)
    const ids = messages.map(({ messageId }) => messageId)
    try {
      await outbox.transaction(async (tx) => {
        claimAsNew(tx, definition.name, messages)
        outbox.add(tx, await handler.handle(messages, tx))
      })
      return true
    } catch (error) {
      if (isUnavailable(error) || !(await outbox.transaction((tx) => isAnyClaimed(tx, definition.name, ids)))) throw error
      return false
    }
  }

  /** Handles what this endpoint has not handled before, and buries what came under the id of something else. Returns whether anything was handled. */
  async #handleNew(handler: Handler, batch: readonly Received[]): Promise<boolean> {
    const { definition, outbox } = this.#options
    const ids = batch.map(({ message }) => message.messageId)
    const { fresh, reused } = await outbox.transaction(async (tx) => {
      const claimed = await claim(tx, definition.name, batch.map(({ message }) => message))
      const messages = [...claimed.fresh]
      if (messages.length > 0) outbox.add(tx, await handler.handle(messages, tx))
      if (batch.some(({ delivery }) => delivery.redeliveries > 0)) forgetStart(tx, definition.name, ids)
      const letters = batch.filter(({ delivery, message }) => replayedIn(delivery.headers) !== undefined && !claimed.reused.has(message))
      if (letters.length > 0) markHandled(tx, definition.name, letters.map(({ delivery }) => delivery.payload))
      return claimed
    })
    for (const one of batch) {
      const error = reused.get(one.message)
      if (!error) continue
      one.attempts.push(attemptOf(error))
      this.#bury(one, error)
    }
    return fresh.size > 0
  }

  /**
   * A process had these messages before and did not acknowledge them. Each is recorded as begun. Whichever was begun before and
   * not finished is handled alone, and after several such ends becomes a dead letter: processes die of it.
   * @returns the batch without those
   */
  async #withoutSuspects(batch: readonly Received[], again: readonly Received[], batcher: Batcher<Received>): Promise<Received[]> {
    const { definition, outbox } = this.#options
    const unknown = again.filter(({ message }) => !this.#begun.has(message.messageId))
    if (unknown.length === 0) return [...batch]
    const isAlone = batch.length === 1
    const begins = await outbox.transaction(async (tx) => {
      const starts = await unfinishedStarts(tx, definition.name, unknown.map(({ message }) => message.messageId))
      const begun = unknown.filter(({ message }) => (starts.get(message.messageId) ?? 0) < (isAlone ? DEADLY_STARTS : 1))
      await recordStart(tx, definition.name, begun.map(({ message }) => message.messageId))
      return new Set(begun)
    })
    for (const { message } of begins) this.#begun.add(message.messageId)
    const suspects = new Set(unknown.filter((one) => !begins.has(one)))
    for (const suspect of suspects) {
      if (isAlone) {
        const error = new DeadlyMessage()
        suspect.attempts.push(attemptOf(error))
        this.#bury(suspect, error)
      } else if (!suspect.alone) {
        suspect.alone = true
        batcher.push(suspect)
      }
    }
    return batch.filter((one) => !suspects.has(one))
  }

  /** It leaves this process; the caller settles its delivery. */
  #end(received: Received): Delivery {
    received.ended = true
    this.#begun.delete(received.message.messageId)
    return received.delivery
  }

  async #onError(error: unknown, attempt: number): Promise<BatchFailure> {
    const { definition, log, outbox } = this.#options
    if (attempt === 1 && isUnavailable(error)) log.warn({ err: error, endpoint: definition.name }, 'Database away; the endpoint waits for it')
    return waitOrSplit(error, attempt, outbox)
  }

  #failed(received: Received, error: unknown, policy: RetryPolicy, batcher: Batcher<Received>): void {
    const { definition, log } = this.#options
    const { delivery, message, attempts } = received
    if (this.#stopping.signal.aborted) return delivery.requeue()
    attempts.push(attemptOf(error))
    const redeliveries = redeliveriesIn(delivery.headers)
    const seconds = replayedIn(delivery.headers) !== undefined ? undefined : policy.redeliverySeconds[redeliveries]
    const details = { err: error, endpoint: definition.name, messageId: message.messageId, correlationId: message.correlationId, type: message.contract.name, redeliveries }
    if (!isWorthRetrying(error, policy)) this.#bury(received, error)
    else if (attempts.length <= policy.immediate.times) {
      log.debug(details, 'Handler failed; trying again')
      received.alone = true
      void pause(backoff(attempts.length, policy.immediate.minMs, policy.immediate.maxMs), this.#stopping.signal).then(() => (this.#stopping.signal.aborted ? delivery.requeue() : batcher.push(received)))
    } else if (seconds !== undefined) {
      log.warn({ ...details, seconds }, 'Handler failed; the message comes again later')
      this.#puttingOff.push({ received, seconds })
    } else this.#bury(received, error)
  }

  async #putOff(batch: readonly PutOff[]): Promise<void> {
    const { definition, outbox } = this.#options
    await outbox.transaction(async (tx) => {
      outbox.sendBack(
        tx,
        batch.map(({ received, seconds }) => ({
          messageId: received.message.messageId,
          endpoint: definition.name,
          // It was read as JSON, so it is text.
          payload: received.delivery.payload.toString(),
          contentType: received.delivery.contentType,
          headers: redeliveryHeaders(received.delivery.headers, allAttempts(received)),
          seconds
        }))
      )
      forgetStart(tx, definition.name, batch.map(({ received }) => received.message.messageId))
    })
    for (const { received } of batch) this.#end(received).ack()
  }

  #bury(received: Received, error: unknown): void {
    this.#sendToDeadLetters({ delivery: this.#end(received), message: received.message, error, attempts: allAttempts(received) })
  }

  #sendToDeadLetters(failure: Failure): void {
    const { definition, log } = this.#options
    const { delivery, message, error } = failure
    const field = error instanceof UnreadableMessage ? error.field : undefined
    log.error({ err: error, endpoint: definition.name, messageId: message?.messageId ?? delivery.messageId, correlationId: message?.correlationId, type: message?.contract.name, field }, 'Message cannot be handled; it becomes a dead letter')
    this.#deadLetters.send(failure)
  }

  /** Back to the queue, later and later: what cannot even be put off must not spin. */
  #giveBack(delivery: Delivery, error: unknown): void {
    if (this.#stopping.signal.aborted) return delivery.requeue()
    this.#options.log.error({ err: error, messageId: delivery.messageId }, 'Message could not be put off; it goes back to its queue')
    void pause(backoff(delivery.redeliveries + 1, 100, 5000), this.#stopping.signal).then(() => delivery.requeue())
  }
}

/** The process ended again and again while it handled this message. */
class DeadlyMessage extends NotRetryable {
  override readonly name = 'DeadlyMessage'
  constructor() {
    super(`the process ended ${DEADLY_STARTS + 1} times while this message was being handled`)
  }
}

/** Nothing says of any of them that it may have been handled before: no second copy, not delivered again, no letter that an operator sent back. */
function looksNew(batch: readonly Received[]): boolean {
  const ids = new Set(batch.map(({ message }) => message.messageId))
  return ids.size === batch.length && batch.every(({ delivery }) => delivery.redeliveries === 0 && replayedIn(delivery.headers) === undefined)
}

/** All tries, those before this delivery included. */
function allAttempts({ delivery, attempts }: Received): FailedAttempt[] {
  return [...attemptsIn(delivery.headers), ...attempts]
}

