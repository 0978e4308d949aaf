import { DatabaseAway } from './away.ts'
import { backoff, Batcher, pause, type BatchFailure } from './batcher.ts'
import { Blockers, SLOW_MS } from './blockers.ts'
import { Consumer } from './consumer.ts'
import { DeadLetterCollector } from './dead-letter-collector.ts'
import { markHandled } from './dead-letter.ts'
import { DeadLetterSender, type Failure } from './dead-letter-sender.ts'
import { EnvelopeReader, UnreadableMessage } from './envelope.ts'
import { attemptOf, attemptsIn, redeliveriesIn, redeliveryHeaders, replayedIn, waitingHeaders, type FailedAttempt } from './failure.ts'
import type { Handler } from './handler.ts'
import { claim, claimAsNew, isAnyClaimed } from './inbox.ts'
import type { Log } from './log.ts'
import type { Contract, Message } from './message.ts'
import type { Outbox } from './outbox.ts'
import { Reading } from './reading.ts'
import { DEFAULT_RETRY, isWorthRetrying, NotRetryable, Refused, waitOrSplit, type RetryPolicy } from './retry.ts'
import { isLockTimeout } from './sql.ts'
import type { EndpointTopology } from './topology.ts'
import type { Delivery, Transport } from './transport.ts'
import { DEADLY_STARTS, forgetStart, recordStart, unfinishedStarts } from './unfinished.ts'
import { within } from './within.ts'

/**
 * Most messages in one transaction. Database time an order, measured: 2.8 ms alone, 0.42 in tens, 0.16 at a hundred,
 * 0.21 at four hundred.
 */
const BATCH = 100

/** For so long after a lock timeout, ms, the lane waits for locks as briefly as this, ms: what needs the lock waits aside, and nobody behind it. */
const BLOCKED_MS = 30_000
const BRIEF_LOCK_MS = 50
/** How long those that wait aside wait for a lock, ms. */
const ASIDE_LOCK_MS = 1000
/** How many wait aside in this process; more come again from the outbox, after so many seconds. */
const MOST_ASIDE = 100
const ASIDE_SECONDS = 5
/** After the database was seen to work, ms, what looks like an outage is the batch's own. */
const SEEN_TO_WORK_MS = 5000

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
  /** How often somebody's lock was in its way while it was tried alone. */
  blocked: number
}

/** Where a handler's messages are worked on. What fails goes on aside, so that it is in nobody's way. */
interface Lanes {
  main: Batcher<Received>
  aside: Batcher<Received>
}

interface PutOff {
  received: Received
  seconds: number
  /** It failed by its own fault. */
  counts: boolean
}

/**
 * Consumes one queue. What arrives while a handler is busy becomes its next batch: one transaction of inbox, handler and
 * outbox, and only after its commit the acknowledgements. A transaction holds one handler's messages, so that handlers
 * never mix their lock orders. Every message ends handled, put off (in the outbox, until it is due) or as a dead letter.
 */
export class Endpoint {
  readonly #options: EndpointOptions
  readonly #reader: EnvelopeReader
  readonly #lanes = new Map<Contract, Lanes>()
  readonly #reading = new Reading()
  readonly #puttingOff: Batcher<PutOff>
  readonly #deadLetters: DeadLetterSender
  readonly #collector: DeadLetterCollector
  /** Redelivered messages that this process has recorded as begun. */
  readonly #begun = new Set<string>()
  readonly #stopping = new AbortController()
  readonly #consumer: Consumer
  readonly #blockers: Blockers
  /** Until when locks are waited for only briefly, by performance.now(). */
  #blockedUntil = 0
  /** When the database was last asked and worked, by performance.now(). */
  #seenToWork = -Infinity
  /** What waits aside for a lock. */
  readonly #aside = new Set<Received>()

  constructor(options: EndpointOptions) {
    this.#options = options
    const { definition, transport, log } = options
    this.#reader = new EnvelopeReader(definition.handlers.flatMap((handler) => handler.contracts))
    this.#deadLetters = new DeadLetterSender(definition.name, transport, log)
    this.#collector = new DeadLetterCollector(definition.name, this.#reader, options)
    this.#blockers = new Blockers(options.outbox, log)
    for (const handler of definition.handlers) {
      const lanes = this.#lanesOf(handler)
      for (const contract of handler.contracts) {
        if (this.#lanes.has(contract)) throw new Error(`Endpoint ${definition.name} has two handlers for ${contract.name}`)
        this.#lanes.set(contract, lanes)
      }
    }
    this.#puttingOff = new Batcher({
      limit: BATCH,
      work: (batch) => this.#putOff(batch),
      onError: (error, attempt) => this.#consumer.onOutage(error) ?? waitOrSplit(error, attempt, options.outbox),
      failed: ({ received }, error) => this.#cannotPutOff(received, error)
    })
    this.#consumer = new Consumer({
      endpoint: definition.name,
      outbox: options.outbox,
      log,
      subscribe: () => [transport.subscribe(definition.name, (delivery) => this.#receive(delivery))],
      giveBack: () => this.#giveBackWaiting(),
      resume: () => this.#forgetBegun()
    })
  }

  #lanesOf(handler: Handler): Lanes {
    const policy = { ...DEFAULT_RETRY, ...this.#options.definition.retry, ...handler.retry }
    const shared = { limit: BATCH, alone: ({ alone }: Received) => alone, failed: (received: Received, error: Error) => this.#failed(received, error, policy, lanes) }
    const lanes: Lanes = {
      main: new Batcher<Received>({
        ...shared,
        work: (batch) => this.#work(handler, batch, lanes, performance.now() < this.#blockedUntil ? BRIEF_LOCK_MS : undefined),
        onError: (error, attempt, batch) => this.#onError(error, attempt, batch)
      }),
      aside: new Batcher<Received>({
        ...shared,
        work: (batch) => this.#work(handler, batch, lanes, ASIDE_LOCK_MS),
        // Whoever holds the lock may hold it for long: all of them ask together, and now and then each for itself.
        onError: (error, attempt, batch) => (isLockTimeout(error) && attempt < 3 && batch.length > 1 ? { retryAfterMs: backoff(attempt, 250, 2000) } : this.#onError(error, attempt, batch))
      })
    }
    return lanes
  }

  start(): void {
    this.#collector.start()
    this.#consumer.start()
  }

  /** Takes nothing new, finishes the transactions that run, gives the rest back to the queue. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    // Deliveries end at once; the stop itself waits until all that was handed out is settled below.
    const cancelled = this.#consumer.stop()
    for (const delivery of this.#reading.stop()) delivery.requeue()
    for (const batcher of this.#batchers) for (const { delivery } of await batcher.stop()) delivery.requeue()
    for (const { received } of await this.#puttingOff.stop()) received.delivery.requeue()
    await this.#deadLetters.stop()
    await Promise.all([this.#forgetBegun(), cancelled, this.#collector.stop()])
  }

  get #batchers(): Set<Batcher<Received>> {
    return new Set([...this.#lanes.values()].flatMap(({ main, aside }) => [main, aside]))
  }

  #giveBackWaiting(): void {
    this.#aside.clear()
    for (const delivery of this.#reading.stop()) delivery.requeue()
    for (const batcher of this.#batchers) for (const { delivery } of batcher.takeWaiting()) delivery.requeue()
    for (const { received } of this.#puttingOff.takeWaiting()) received.delivery.requeue()
  }

  /** What is given back was not finished, but nobody died of it. Bounded: it can do without. */
  async #forgetBegun(): Promise<void> {
    if (this.#begun.size === 0) return
    const { definition, outbox, log } = this.#options
    const forgotten = outbox.transaction(async (tx) => forgetStart(tx, definition.name, [...this.#begun])).catch((error: unknown) => log.debug({ err: error }, 'Messages given back stay recorded as begun'))
    await within(FORGET_MS, forgotten)
  }

  #receive(delivery: Delivery): void {
    if (this.#givesBack) return delivery.requeue()
    this.#reading.take(delivery, (one) => this.#read(one))
  }

  #read(delivery: Delivery): void {
    let message: Message
    try {
      message = this.#reader.read(delivery.payload, delivery.contentType)
    } catch (error) {
      return this.#sendToDeadLetters({ delivery, error, attempts: [attemptOf(error)] })
    }
    this.#lanes.get(message.contract)!.main.push({ delivery, message, attempts: [], alone: false, ended: false, blocked: 0 })
  }

  /** The process stops, or the database has been away for long. */
  get #givesBack(): boolean {
    return this.#stopping.signal.aborted || this.#consumer.interrupted
  }

  async #work(handler: Handler, received: Received[], lanes: Lanes, lockTimeoutMs: number | undefined): Promise<void> {
    const waiting = received.filter(({ ended }) => !ended)
    const again = waiting.filter(({ delivery }) => delivery.redeliveries > 0)
    const batch = again.length > 0 ? await this.#withoutSuspects(waiting, again, lanes) : waiting
    if (batch.length === 0) return
    const slow = setTimeout(() => void this.#blockers.tell(), SLOW_MS)
    try {
      const handled = (looksNew(batch) && (await this.#handleAsNew(handler, batch, lockTimeoutMs))) || (await this.#handleNew(handler, batch, lockTimeoutMs))
      for (const one of batch) if (!one.ended) this.#end(one).ack()
      if (handled.length > 0) handler.committed?.(handled)
    } finally {
      clearTimeout(slow)
    }
  }

  /**
   * Takes the whole batch to be new, so that its first statements need not wait for the inbox's answer. Nearly every batch is: of a copy, the
   * broker mostly says that it was delivered before.
   * @returns what was handled; undefined when it was not new, and nothing has been done
   */
  async #handleAsNew(handler: Handler, batch: readonly Received[], lockTimeoutMs: number | undefined): Promise<Message[] | undefined> {
    const { definition, outbox } = this.#options
    const messages = batch.map(({ message }) => message)
    const ids = messages.map(({ messageId }) => messageId)
    try {
      await outbox.transaction(async (tx) => {
        claimAsNew(tx, definition.name, messages)
        outbox.add(tx, await handler.handle(messages, tx))
      }, { lockTimeoutMs })
      return messages
    } catch (error) {
      if (error instanceof DatabaseAway || !(await outbox.transaction((tx) => isAnyClaimed(tx, definition.name, ids)))) throw error
      return undefined
    }
  }

  /** Handles what this endpoint has not handled before, and buries what came under the id of something else. Returns what was handled. */
  async #handleNew(handler: Handler, batch: readonly Received[], lockTimeoutMs: number | undefined): Promise<Message[]> {
    const { definition, outbox } = this.#options
    const ids = batch.map(({ message }) => message.messageId)
    const { messages: handled, reused } = await outbox.transaction(async (tx) => {
      const claimed = await claim(tx, definition.name, batch.map(({ message }) => message))
      const messages = [...claimed.fresh]
      if (messages.length > 0) outbox.add(tx, await handler.handle(messages, tx))
      if (batch.some(({ delivery }) => delivery.redeliveries > 0)) forgetStart(tx, definition.name, ids)
      const letters = batch.filter(({ delivery, message }) => replayedIn(delivery.headers) !== undefined && !claimed.reused.has(message))
      if (letters.length > 0) markHandled(tx, definition.name, letters.map(({ delivery }) => delivery.payload))
      return { messages, reused: claimed.reused }
    }, { lockTimeoutMs })
    for (const one of batch) {
      const error = reused.get(one.message)
      if (!error) continue
      one.attempts.push(attemptOf(error))
      this.#bury(one, error)
    }
    return handled
  }

  /**
   * A process had these messages before and did not acknowledge them. Each is recorded as begun. Whichever was begun before and
   * not finished is handled alone, and after several such ends becomes a dead letter: processes die of it.
   * @returns the batch without those
   */
  async #withoutSuspects(batch: readonly Received[], again: readonly Received[], lanes: Lanes): Promise<Received[]> {
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
        lanes.aside.push(suspect)
      }
    }
    return batch.filter((one) => !suspects.has(one))
  }

  /** It leaves this process; the caller settles its delivery. */
  #end(received: Received): Delivery {
    received.ended = true
    this.#aside.delete(received)
    this.#begun.delete(received.message.messageId)
    return received.delivery
  }

  async #onError(error: Error, attempt: number, batch: readonly Received[]): Promise<BatchFailure<Received>> {
    if (error instanceof Refused && batch.length > 1) {
      const guilty = new Set(batch.filter(({ message }) => error.reasonFor(message)))
      return guilty.size > 0 ? { guilty } : 'split'
    }
    if (isLockTimeout(error)) {
      this.#blockedUntil = performance.now() + BLOCKED_MS
      return 'split'
    }
    const isOutage = error instanceof DatabaseAway
    if (isOutage && batch.length > 1 && performance.now() - this.#seenToWork < SEEN_TO_WORK_MS) return 'split'
    const failure = this.#consumer.onOutage(error) ?? (await waitOrSplit(error, attempt, this.#options.outbox))
    if (isOutage && failure === 'split') this.#seenToWork = performance.now()
    return failure
  }

  #failed(received: Received, failure: Error, policy: RetryPolicy, lanes: Lanes): void {
    const { definition, log } = this.#options
    const { delivery, message, attempts } = received
    if (this.#givesBack) return delivery.requeue()
    if (isLockTimeout(failure)) return this.#waitAside(received, lanes)
    const error = (failure instanceof Refused && failure.reasonFor(message)) || failure
    attempts.push(attemptOf(error))
    const redeliveries = redeliveriesIn(delivery.headers)
    const seconds = replayedIn(delivery.headers) !== undefined ? undefined : policy.redeliverySeconds[redeliveries]
    const details = { err: error, endpoint: definition.name, messageId: message.messageId, correlationId: message.correlationId, type: message.contract.name, redeliveries }
    if (!isWorthRetrying(error, policy)) this.#bury(received, error)
    else if (attempts.length <= policy.immediate.times) {
      log.debug(details, 'Handler failed; trying again')
      received.alone = true
      this.#later(received, backoff(attempts.length, policy.immediate.minMs, policy.immediate.maxMs), lanes)
    } else if (seconds !== undefined) {
      log.warn({ ...details, seconds }, 'Handler failed; the message comes again later')
      this.#puttingOff.push({ received, seconds, counts: true })
    } else this.#bury(received, error)
  }

  /** Somebody's lock is in its way, which is nobody's fault: it counts for nothing, and others go on. */
  #waitAside(received: Received, lanes: Lanes): void {
    if (!this.#aside.has(received) && this.#aside.size >= MOST_ASIDE) return this.#puttingOff.push({ received, seconds: ASIDE_SECONDS, counts: false })
    this.#aside.add(received)
    this.#later(received, backoff(++received.blocked, 100, 5000), lanes)
  }

  #later(received: Received, ms: number, { aside }: Lanes): void {
    void pause(ms, this.#stopping.signal).then(() => {
      if (this.#givesBack) received.delivery.requeue()
      else aside.push(received)
    })
  }

  async #putOff(batch: readonly PutOff[]): Promise<void> {
    const { definition, outbox } = this.#options
    await outbox.transaction(async (tx) => {
      outbox.sendBack(
        tx,
        batch.map(({ received, seconds, counts }) => ({
          messageId: received.message.messageId,
          endpoint: definition.name,
          // It was read as JSON, so it is text.
          payload: received.delivery.payload.toString(),
          contentType: received.delivery.contentType,
          headers: (counts ? redeliveryHeaders : waitingHeaders)(received.delivery.headers, allAttempts(received)),
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

  /** The database works and does not take it. It must not spin between the queue and here. */
  #cannotPutOff(received: Received, error: Error): void {
    if (this.#givesBack) return received.delivery.requeue()
    if (isLockTimeout(error)) return this.#puttingOff.push({ received, seconds: ASIDE_SECONDS, counts: false })
    this.#bury(received, error)
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

