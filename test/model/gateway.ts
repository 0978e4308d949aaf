import type { ChargeResult, GatewayRequest, PaymentGateway } from '../../src/payment/gateway.ts'
import { SimulatedGateway } from '../../src/payment/simulated-gateway.ts'

/** How much later than the first a second answer comes, ms. */
const AGAIN_MS = 20

/** How often asking fails before it works; of a lost answer the charge has been made. */
const FAILURES: Record<string, number> = { pm_sim_lost_response: 1, pm_sim_fails_twice: 2 }

/** What gateways hold of an order, seen from their side of the wire. */
export interface Account {
  charges: number
  refunds: number
  /** Minor units that are kept. */
  net: number
}

/**
 * A payment gateway that outlives the processes that call it, as real ones do; one key moves money
 * once.
 */
export class ModelGateway implements PaymentGateway {
  works = true
  /** Whether a key, however it is made, is that of an order here. */
  readonly knows: (key: string) => boolean
  readonly #charged = new Map<string, number>()
  readonly #refunded = new Map<string, number>()
  /** Given back before they were charged: they never will be. */
  readonly #cancelled = new Set<string>()
  readonly #failures = new Map<string, number>()

  constructor(knows: (key: string) => boolean) {
    this.knows = knows
    all.push(this)
  }

  async charge(
    { key, amount, method }: GatewayRequest,
    _signal: AbortSignal,
    again: (answer: ChargeResult) => void
  ): Promise<ChargeResult> {
    this.#reach()
    if (this.#cancelled.has(key)) return { outcome: 'declined', reason: 'Cancelled' }
    if (method === 'pm_card_chargeDeclined') return { outcome: 'declined', reason: 'CardDeclined' }
    const fails = this.#fails(key, method)
    if (!fails || method === 'pm_sim_lost_response') this.#charged.set(key, amount)
    if (fails) throw new Error('The gateway failed')
    const answer: ChargeResult = { outcome: 'charged', reference: key }
    if (method === 'pm_sim_answers_twice') setTimeout(() => again(answer), AGAIN_MS).unref()
    return answer
  }

  async refund({ key }: GatewayRequest): Promise<{ amount: number }> {
    this.#reach()
    const amount = this.#charged.get(key) ?? 0
    if (amount > 0) this.#refunded.set(key, amount)
    else this.#cancelled.add(key)
    return { amount }
  }

  /** All that happened for an order, under whatever keys. */
  accountOf(orderId: string): Account {
    const of = (moved: Map<string, number>) =>
      [...moved].filter(([key]) => key.includes(orderId)).map(([, amount]) => amount)
    const [charges, refunds] = [of(this.#charged), of(this.#refunded)]
    return { charges: charges.length, refunds: refunds.length, net: sum(charges) - sum(refunds) }
  }

  #reach(): void {
    if (!this.works) throw new Error('The gateway cannot be reached')
  }

  #fails(key: string, method: string): boolean {
    const failed = this.#failures.get(key) ?? 0
    this.#failures.set(key, failed + 1)
    return failed < (FAILURES[method] ?? 0)
  }
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((total, amount) => total + amount, 0)
}

/**
 * The product builds its own gateway, deep inside; what that is asked goes to the gateway of the
 * world that knows the order.
 */
const all: ModelGateway[] = []
function inCharge(key: string): ModelGateway {
  const found = all.find((gateway) => gateway.knows(key))
  if (!found) throw new Error(`No world knows an order by the key ${key}`)
  return found
}

SimulatedGateway.prototype.charge = async (request, signal, again) =>
  inCharge(request.key).charge(request, signal, again)
SimulatedGateway.prototype.refund = async (request) => inCharge(request.key).refund(request)
