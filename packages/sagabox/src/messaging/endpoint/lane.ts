import type { BatchJudge } from './batch-judge.ts'
import { BatchTransaction } from './batch-transaction.ts'
import { backoff, Batcher, pause } from '../async/batcher.ts'
import { SLOW_MS, type Blockers } from './blockers.ts'
import type { Consumer } from '../inbox/consumer.ts'
import type { Endings } from './endings.ts'
import { attemptOf, redeliveriesIn, replayedIn } from '../dead-letters/headers.ts'
import type { Handler } from './handler.ts'
import type { LockWaits } from './lock-waits.ts'
import type { Log } from '../async/log.ts'
import type { Message } from '../message/message.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { looksNew, type Received } from './received.ts'
import type { Semaphore } from '../async/semaphore.ts'
import type { Redelivery } from './redelivery.ts'
import { isWorthRetrying, Refused, type RetryPolicy } from '../inbox/retry.ts'
import { isLockTimeout } from '../postgres/sql.ts'
import { DeadlyMessage, type Suspects } from './suspects.ts'

/**
 * Most messages in one transaction. Database time an order, measured: 2.8 ms alone, 0.42 in tens,
 * 0.16 at a hundred, 0.21 at four hundred.
 */
const BATCH = 100
/** How long those that wait aside wait for a lock, ms. */
const ASIDE_LOCK_MS = 1000

/** What an endpoint lends its lanes: all of them share it. */
export interface LanesOptions {
  endpoint: string
  outbox: Outbox
  consumer: Consumer
  judge: BatchJudge
  locks: LockWaits
  suspects: Suspects
  endings: Endings
  redelivery: Redelivery
  blockers: Blockers
  /** Of the endpoint's transactions, where they are limited. */
  turns: Semaphore | undefined
  log: Log
}

/**
 * Where one handler's messages are worked on: the main lane, and one aside for what fails, so that
 * it is in nobody's way.
 */
export class Lanes {
  readonly #handler: Handler
  readonly #policy: RetryPolicy
  readonly #options: LanesOptions
  readonly #transaction: BatchTransaction
  readonly #main: Batcher<Received>
  readonly #aside: Batcher<Received>

  constructor(handler: Handler, policy: RetryPolicy, options: LanesOptions) {
    const { endpoint, outbox, endings, judge, locks } = options
    this.#handler = handler
    this.#policy = policy
    this.#options = options
    this.#transaction = new BatchTransaction(handler, endpoint, outbox, endings)
    const shared = {
      limit: BATCH,
      alone: ({ alone }: Received) => alone,
      failed: (received: Received, error: Error) => this.#failed(received, error)
    }
    this.#main = new Batcher<Received>({
      ...shared,
      work: (batch) => this.#work(batch, locks.mainLockMs),
      onError: (error, attempt, batch) => judge.judge(error, attempt, batch)
    })
    this.#aside = new Batcher<Received>({
      ...shared,
      work: (batch) => this.#work(batch, ASIDE_LOCK_MS),
      // Whoever holds the lock may hold it for long: all of them ask together, and now and then
      // each for itself.
      onError: (error, attempt, batch) =>
        isLockTimeout(error) && attempt < 3 && batch.length > 1
          ? { retryAfterMs: backoff(attempt, 250, 2000) }
          : judge.judge(error, attempt, batch)
    })
  }

  push(delivery: Received['delivery'], message: Message): void {
    const waitsMs = message.asked?.waitsMs
    const expiresAt = waitsMs === undefined ? Infinity : performance.now() + waitsMs
    const fresh = { attempts: [], alone: false, ended: false, blocked: 0 }
    this.#main.push({ delivery, message, expiresAt, ...fresh })
  }

  /** Gives back to the queue what has not begun. */
  giveBack(): void {
    for (const { delivery } of this.#main.takeWaiting()) delivery.requeue()
    for (const { delivery } of this.#aside.takeWaiting()) delivery.requeue()
  }

  /** Finishes the transactions that run, and gives the rest back to the queue. */
  async stop(): Promise<void> {
    for (const { delivery } of await this.#main.stop()) delivery.requeue()
    for (const { delivery } of await this.#aside.stop()) delivery.requeue()
  }

  async #work(received: Received[], lockTimeoutMs: number | undefined): Promise<void> {
    const { endings, blockers, turns } = this.#options
    const waiting = received.filter((one) => !one.ended && !this.#expired(one))
    const again = waiting.filter(({ delivery }) => delivery.redeliveries > 0)
    const batch = again.length > 0 ? await this.#withoutSuspects(waiting, again) : waiting
    if (batch.length === 0) return
    if (turns) await turns.take()
    const slow = setTimeout(() => void blockers.tell(), SLOW_MS)
    try {
      const handled =
        (looksNew(batch) && (await this.#transaction.handleAsNew(batch, lockTimeoutMs))) ||
        (await this.#transaction.handleNew(batch, lockTimeoutMs))
      for (const one of batch) if (!one.ended) endings.end(one).ack()
      if (handled.length > 0) this.#handler.committed?.(handled)
    } finally {
      clearTimeout(slow)
      turns?.give()
    }
  }

  /**
   * Whichever was begun before and not finished is handled alone, and after several such ends
   * becomes a dead letter: processes die of it.
   * @returns the batch without those
   */
  async #withoutSuspects(batch: Received[], again: readonly Received[]): Promise<Received[]> {
    const suspects = await this.#options.suspects.among(batch, again)
    for (const suspect of suspects) {
      if (batch.length === 1) {
        const error = new DeadlyMessage()
        suspect.attempts.push(attemptOf(error))
        this.#options.endings.bury(suspect, error)
      } else if (!suspect.alone) {
        suspect.alone = true
        this.#aside.push(suspect)
      }
    }
    return batch.filter((one) => !suspects.has(one))
  }

  /** Nobody waits for it any more: it is not handled. */
  #expired(received: Received): boolean {
    if (received.expiresAt === Infinity || performance.now() <= received.expiresAt) return false
    const { endpoint, endings, log } = this.#options
    const { messageId, contract } = received.message
    endings.end(received).ack()
    log.debug({ endpoint, messageId, type: contract.name }, 'A request has expired: it is dropped')
    return true
  }

  #failed(received: Received, failure: Error): void {
    const { delivery, message, attempts } = received
    if (this.#options.consumer.givesBack) return delivery.requeue()
    if (isLockTimeout(failure)) return this.#waitAside(received)
    const error = (failure instanceof Refused && failure.reasonFor(message)) || failure
    attempts.push(attemptOf(error))
    // Whom the handler tells apart by name is in nobody's way.
    if (isWorthRetrying(error, this.#policy)) this.#retry(received, error, error === failure)
    else this.#options.endings.bury(received, error)
  }

  /** Again at once, while the policy says so; then later; then never. */
  #retry(received: Received, error: Error, alone: boolean): void {
    const { endpoint, endings, redelivery, log } = this.#options
    const { immediate, redeliverySeconds } = this.#policy
    const { delivery, message, attempts } = received
    const redeliveries = redeliveriesIn(delivery.headers, message.headers)
    const isReplayed = replayedIn(delivery.headers) !== undefined
    const again = isReplayed ? undefined : redeliverySeconds[redeliveries]
    // Whoever asked is told that it failed, rather than answered when nobody waits any more.
    const isTooLate = again !== undefined && performance.now() + again * 1000 > received.expiresAt
    const seconds = isTooLate ? undefined : again
    const { messageId, correlationId, contract } = message
    const type = contract.name
    const details = { err: error, endpoint, messageId, correlationId, type, redeliveries }
    if (attempts.length <= immediate.times) {
      log.debug(details, 'Handler failed; trying again')
      received.alone = alone
      this.#later(received, backoff(attempts.length, immediate.minMs, immediate.maxMs))
    } else if (seconds !== undefined) {
      log.warn({ ...details, seconds }, 'Handler failed; the message comes again later')
      redelivery.afterFailure(received, seconds)
    } else endings.bury(received, error)
  }

  /** Somebody's lock is in its way, which is nobody's fault: it counts for nothing. */
  #waitAside(received: Received): void {
    const { locks, redelivery } = this.#options
    if (!locks.admit(received)) return redelivery.afterLock(received)
    this.#later(received, backoff(++received.blocked, 100, 5000))
  }

  #later(received: Received, ms: number): void {
    const { consumer } = this.#options
    void pause(ms, consumer.stopping).then(() => {
      if (consumer.givesBack) received.delivery.requeue()
      else this.#aside.push(received)
    })
  }
}
