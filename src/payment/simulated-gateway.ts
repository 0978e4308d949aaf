import type { ChargeResult, PaymentGateway } from './gateway.ts'

const DECLINED: Record<string, string> = {
  pm_card_chargeDeclined: 'CardDeclined',
  pm_card_chargeDeclinedInsufficientFunds: 'InsufficientFunds'
}

/** A gateway that moves no money and is steered by the payment method's name. */
export class SimulatedGateway implements PaymentGateway {
  /** Charges whose answer was lost once; asked again under the same key, it arrives. */
  readonly #lost = new Set<string>()

  async charge({ key, method }: { key: string; method: string }): Promise<ChargeResult> {
    if (method === 'pm_sim_unavailable') throw new Error('The simulated gateway cannot be reached')
    if (method === 'pm_sim_lost_response' && !this.#lost.has(key)) {
      this.#lost.add(key)
      throw new Error('The simulated gateway charged, and its answer was lost')
    }
    const reason = DECLINED[method]
    return reason ? { outcome: 'declined', reason } : { outcome: 'charged', reference: `sim_${key}` }
  }

  async refund({ amount, method }: { amount: number; method: string }): Promise<{ amount: number }> {
    return { amount: method === 'pm_sim_unavailable' || DECLINED[method] ? 0 : amount }
  }
}
