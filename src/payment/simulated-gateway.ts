import { setTimeout as delay } from 'node:timers/promises'
import type { ChargeResult, GatewayRequest, PaymentGateway, RefundResult } from './gateway.ts'

const DECLINED: Record<string, string> = {
  pm_card_chargeDeclined: 'CardDeclined',
  pm_card_chargeDeclinedInsufficientFunds: 'InsufficientFunds'
}

/** How often asking fails before it works. */
const FAILURES: Record<string, { times: number; error: string }> = {
  pm_sim_unavailable: { times: Infinity, error: 'The simulated gateway cannot be reached' },
  pm_sim_lost_response: {
    times: 1,
    error: 'The simulated gateway charged, and its answer was lost'
  },
  pm_sim_fails_twice: { times: 2, error: 'The simulated gateway failed' }
}

const SLOW_MS = 5000
/**
 * How much later than the first a second answer comes, ms: the first has been recorded by then, as
 * a rule.
 */
const AGAIN_MS = 100
/** Keys remembered of each kind; older ones are forgotten. */
const REMEMBERED = 10_000

/**
 * A gateway that moves no money and is steered by the payment method's name. It remembers keys in
 * memory: after a restart it loses another answer, and a charge whose answer nobody heard counts as
 * never made.
 */
export class SimulatedGateway implements PaymentGateway {
  readonly #failures = new Map<string, number>()
  readonly #charged = new Map<string, true>()
  /** Refunded before they were charged: they never will be. */
  readonly #cancelled = new Map<string, true>()

  async charge(
    { key, method }: GatewayRequest,
    signal: AbortSignal,
    again: (answer: ChargeResult) => void
  ): Promise<ChargeResult> {
    signal.throwIfAborted()
    if (method === 'pm_sim_slow') await delay(SLOW_MS, undefined, { signal })
    if (this.#cancelled.has(key)) return { outcome: 'declined', reason: 'Cancelled' }
    if (method === 'pm_sim_lost_response') remember(this.#charged, key, true)
    this.#fail(key, method)
    const reason = DECLINED[method]
    if (reason) return { outcome: 'declined', reason }
    remember(this.#charged, key, true)
    const answer: ChargeResult = { outcome: 'charged', reference: `sim_${key}` }
    if (method === 'pm_sim_answers_twice') setTimeout(() => again(answer), AGAIN_MS).unref()
    return answer
  }

  async refund(
    { key, amount, method, reference }: GatewayRequest & { reference?: string },
    signal: AbortSignal
  ): Promise<RefundResult> {
    signal.throwIfAborted()
    if (reference !== undefined || this.#charged.has(key)) {
      if (method !== 'pm_sim_refund_refused') return { amount }
      return { refused: 'ChargeDisputed', detail: 'The simulated customer disputes the charge' }
    }
    remember(this.#cancelled, key, true)
    return { amount: 0 }
  }

  #fail(key: string, method: string): void {
    const failure = FAILURES[method]
    if (!failure) return
    const failed = this.#failures.get(key) ?? 0
    if (failed >= failure.times) return
    remember(this.#failures, key, failed + 1)
    throw new Error(failure.error)
  }
}

function remember<T>(memory: Map<string, T>, key: string, value: T): void {
  memory.set(key, value)
  if (memory.size > REMEMBERED) memory.delete(memory.keys().next().value!)
}
