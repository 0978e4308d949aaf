import { setMaxListeners } from 'node:events'
import { backoff, Batcher, Loop, run, statement, waitOrSplit, atMost, write } from 'sagabox/engine'
import type { Log, Message, Outbox, Tx } from 'sagabox'
import {
  PaymentCompletedEvent,
  PaymentFailedEvent,
  PaymentRefundedEvent
} from '../contracts/payment.ts'
import { claimDue, GATEWAY_TIMEOUT_MS, type Claimed } from './claim.ts'
import { GatewayOutage } from './gateway-outage.ts'
import { GatewayUnavailable, type ChargeResult, type PaymentGateway } from './gateway.ts'
import { reasonOf } from './reason.ts'
import type { PaymentStatus } from './entities.ts'

/** Payments claimed at once, and the most asked for at the same time. */
const BATCH = 100
const MAX_IN_FLIGHT = 400
/** Back-stop for payments of a process that died, and the pause between two asks, ms. */
const POLL_MS = 1000
/** How long stop() waits for answers to be recorded, ms. */
const STOP_GRACE_MS = 5000
const RETRY_MIN_MS = 200
const RETRY_MAX_MS = 60_000

const LOCK = statement(
  `
    select order_id, status, refund_requested, ctid::text as ctid from payments
      where order_id = any($1::uuid[]) order by order_id for update`
)

const RECORD = statement(`
  update payments set status = outcome.status, failure_reason = coalesce(outcome.failure_reason,
    payments.failure_reason),
    gateway_reference = coalesce(outcome.reference, payments.gateway_reference),
    refunded_amount = coalesce(outcome.refunded_amount, payments.refunded_amount),
    last_error = coalesce(outcome.last_error, payments.last_error), updated_at = now(),
    next_attempt_at = now() + outcome.retry_ms * interval '1 millisecond'
  from unnest($1::tid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[],
    $7::integer[])
    as outcome (ctid, status, failure_reason, reference, refunded_amount, last_error, retry_ms)
  where payments.ctid = outcome.ctid`)

type Outcome =
  | ChargeResult
  | { outcome: 'refunded'; amount: number }
  | { outcome: 'refused'; reason: string; detail: string }
  | { outcome: 'unknown'; error: string }

interface Answered {
  payment: Claimed
  answer: Outcome
}

interface LockedPayment {
  order_id: string
  status: PaymentStatus
  refund_requested: boolean
  ctid: string
}

interface Change {
  status: PaymentStatus
  failureReason?: string
  reference?: string
  refunded?: number
  lastError?: string
  /** When the gateway is to be asked (again); absent: never. */
  retryMs?: number
  messages: Message[]
}

/**
 * Asks the gateway for what is waiting, outside any transaction, and records its answers with their
 * events. Unknown outcomes are asked for again, under the same key, until there is an answer; a
 * refund that is refused waits for a person.
 */
export class Cashier {
  readonly #outbox: Outbox
  readonly #gateway: PaymentGateway
  readonly #log: Log
  readonly #outage: GatewayOutage
  readonly #loop: Loop
  readonly #answers: Batcher<Answered>
  readonly #asking = new Set<Promise<void>>()

  constructor(outbox: Outbox, gateway: PaymentGateway, log: Log) {
    this.#outbox = outbox
    this.#gateway = gateway
    this.#log = log
    this.#outage = new GatewayOutage(log)
    this.#answers = new Batcher({
      limit: BATCH,
      work: (batch) => this.#record(batch),
      onError: (error, attempt) => waitOrSplit(error, attempt, outbox),
      // The claim runs out and the gateway is asked again under the same key.
      failed: ({ payment }, error) =>
        this.#log.error(
          { err: error, orderId: payment.orderId },
          'The gateway answered, and the answer could not be recorded; it will be asked again'
        )
    })
    this.#loop = new Loop({
      round: () => this.#round(),
      failed: (error) => log.warn({ err: error }, 'Payments could not be claimed; trying again'),
      minMs: 200,
      maxMs: 5000
    })
  }

  start(): void {
    this.#loop.start()
  }

  wake(): void {
    this.#loop.wake()
  }

  /** Claims nothing new, waits for the answers under way, records them. */
  async stop(): Promise<void> {
    await this.#loop.stop()
    await Promise.all(this.#asking)
    // Bounded: without a database the answers cannot be recorded, and will be asked for again.
    await atMost(STOP_GRACE_MS, this.#answers.idle())
    await this.#answers.stop()
  }

  /** Claims what is due and begins to ask for it. Returns how many. */
  async runOnce(): Promise<number> {
    const began = performance.now()
    const claimed = await this.#outbox.transaction((tx) => claimDue(tx, BATCH))
    this.ask(claimed, began)
    return claimed.length
  }

  /** Few enough payments are being asked for to claim another batch. */
  get hasRoom(): boolean {
    return !this.#loop.stopping && this.#asking.size <= MAX_IN_FLIGHT - BATCH
  }

  /**
   * Begins to ask for payments whose claim has been committed.
   * @param began `performance.now()` from before the claim: a process that was suspended in between
   * must not ask under a claim that others think lost
   */
  ask(claimed: readonly Claimed[], began: number): void {
    const left = Math.floor(GATEWAY_TIMEOUT_MS - (performance.now() - began))
    const signal =
      left > 0
        ? AbortSignal.timeout(left)
        : AbortSignal.abort(new Error('the claim was too old to ask the gateway'))
    setMaxListeners(0, signal)
    for (const payment of claimed) {
      const again = (answer: Outcome) => {
        if (!this.#loop.stopping) this.#answers.push({ payment, answer })
      }
      const asking: Promise<void> = this.#ask(payment, signal, again).then((answer) => {
        this.#asking.delete(asking)
        this.#answers.push({ payment, answer })
        if (this.#asking.size === MAX_IN_FLIGHT - BATCH) this.#loop.wake()
      })
      this.#asking.add(asking)
    }
  }

  async #record(batch: Answered[]): Promise<void> {
    const changes = await this.#outbox.transaction(async (tx) => {
      const locked = await run<LockedPayment>(tx, LOCK, [
        batch.map(({ payment }) => payment.orderId)
      ])
      const made = recordAnswers(tx, this.#known(batch, locked), locked)
      tx.send(...made.flatMap(({ messages }) => messages))
      return made
    })
    for (const { status, orderId, failureReason, lastError } of changes) {
      if (status === 'RefundRefused')
        this.#log.warn(
          { orderId, reason: failureReason, lastError },
          'The gateway refuses a refund for good; a person settles it: POST /payments/:orderId/settle'
        )
    }
    const soonest = Math.min(...changes.map(({ retryMs }) => retryMs ?? POLL_MS))
    if (soonest < POLL_MS) setTimeout(() => this.#loop.wake(), soonest).unref()
  }

  /** A database that was put back to an earlier time knows nothing of what was asked since. */
  #known(batch: readonly Answered[], locked: readonly LockedPayment[]): Answered[] {
    const ids = new Set(locked.map((row) => row.order_id))
    return batch.filter(({ payment, answer }) => {
      if (ids.has(payment.orderId)) return true
      this.#log.error(
        { orderId: payment.orderId, amount: payment.amount, currency: payment.currency, answer },
        'The gateway answered for a payment whose row is gone: nobody asks again, so look at the gateway what became of it'
      )
      return false
    })
  }

  /** Returns how many ms to rest. */
  async #round(): Promise<number> {
    const began = performance.now()
    const claimed = this.hasRoom ? await this.runOnce() : 0
    // A look gets slow while somebody's open transaction keeps dead rows: then it is repeated less
    // often.
    return claimed < BATCH ? Math.max(POLL_MS, 20 * (performance.now() - began)) : 0
  }

  async #ask(
    {
      orderId: key,
      status,
      amount,
      currency,
      paymentMethod: method,
      attempts,
      refundRequested: refund,
      reference,
      ageMs
    }: Claimed,
    signal: AbortSignal,
    again: (answer: Outcome) => void
  ): Promise<Outcome> {
    const request = { key, amount, currency, method, ageMs }
    // Nothing to pay, nothing to give back: no gateway takes a charge of zero.
    if (amount === 0)
      return status === 'Pending' && !refund
        ? { outcome: 'charged', reference: 'nothing to pay' }
        : { outcome: 'refunded', amount: 0 }
    // The first attempt of a payment whose refund is already wanted: it was never charged.
    if (status === 'Pending' && refund && attempts === 1) return { outcome: 'refunded', amount: 0 }
    try {
      signal.throwIfAborted()
      const answer =
        status === 'Pending' && !refund
          ? await this.#gateway.charge(request, signal, again)
          : await this.#gateway.refund({ ...request, reference: reference ?? undefined }, signal)
      this.#outage.answered()
      if ('outcome' in answer) return answer
      if ('amount' in answer) return { outcome: 'refunded', amount: answer.amount }
      return { outcome: 'refused', reason: answer.refused, detail: answer.detail ?? answer.refused }
    } catch (error) {
      if (error instanceof GatewayUnavailable) this.#outage.failed(error)
      return { outcome: 'unknown', error: (error as Error).message }
    }
  }
}

/** Records what the gateway said. */
function recordAnswers(
  tx: Tx,
  batch: readonly Answered[],
  locked: readonly LockedPayment[]
): (Change & { orderId: string })[] {
  const current = new Map(locked.map((row) => [row.order_id, row]))
  const counting = batch.filter(({ payment, answer }) =>
    counts(answer, payment.status, current.get(payment.orderId)!.status)
  )
  const changes = counting
    // An attempt that outlived its claim may be answered twice; only one answer counts.
    .filter(
      ({ payment }, index) =>
        index === counting.findIndex((other) => other.payment.orderId === payment.orderId)
    )
    .map(({ payment, answer }) => ({
      orderId: payment.orderId,
      ctid: current.get(payment.orderId)!.ctid,
      ...changeFor(payment, answer, current.get(payment.orderId)!)
    }))
  void write(tx, RECORD, [
    changes.map(({ ctid }) => ctid),
    changes.map(({ status }) => status),
    changes.map(({ failureReason }) => failureReason),
    changes.map(({ reference }) => reference),
    changes.map(({ refunded }) => refunded),
    changes.map(({ lastError }) => lastError?.slice(0, 500)),
    changes.map(({ retryMs }) => retryMs)
  ])
  return changes
}

/**
 * An answer counts while the payment waits for it; money taken after all, for a payment already
 * cancelled, always does.
 */
function counts({ outcome }: Outcome, asked: PaymentStatus, now: PaymentStatus): boolean {
  return now === asked || (outcome === 'charged' && now === 'Cancelled')
}

function changeFor(
  { orderId, status, amount, currency, attempts, ...payment }: Claimed,
  answer: Outcome,
  now: { status: PaymentStatus; refund_requested: boolean }
): Change {
  const refund = now.refund_requested || now.status === 'Cancelled'
  const cause = payment.cause ?? undefined
  switch (answer.outcome) {
    case 'charged': {
      const completed = PaymentCompletedEvent({ orderId, amount, currency }, cause)
      return refund
        ? { status: 'Refunding', reference: answer.reference, retryMs: 0, messages: [completed] }
        : { status: 'Completed', reference: answer.reference, messages: [completed] }
    }
    case 'declined': {
      const reason = reasonOf(answer.reason)
      const failed = PaymentFailedEvent({ orderId, reason }, cause)
      return {
        status: 'Failed',
        failureReason: reason,
        lastError: answer.detail,
        messages: refund ? [failed, PaymentRefundedEvent({ orderId, amount: 0 }, cause)] : [failed]
      }
    }
    case 'refunded':
      return {
        status: answer.amount > 0 ? 'Refunded' : 'Cancelled',
        refunded: answer.amount,
        messages: [PaymentRefundedEvent({ orderId, amount: answer.amount }, cause)]
      }
    case 'refused':
      return {
        status: 'RefundRefused',
        failureReason: reasonOf(answer.reason),
        lastError: answer.detail,
        messages: []
      }
    case 'unknown':
      return {
        status,
        lastError: answer.error,
        retryMs: Math.round(backoff(attempts, RETRY_MIN_MS, RETRY_MAX_MS)),
        messages: []
      }
  }
}
