import { SagaboxError } from 'sagabox'

/** What a gateway says to a charge. */
export type ChargeResult =
  | { outcome: 'charged'; reference: string }
  | { outcome: 'declined'; reason: string; detail?: string }

/**
 * What a gateway says to a refund: how much went back in all, or why it cannot give back anything,
 * now or later. `detail`, of both results, has its own words for people.
 */
export type RefundResult = { amount: number } | { refused: string; detail?: string }

/** A failure that has nothing to do with the payment: whoever asks the gateway now meets it. */
export class GatewayUnavailable extends SagaboxError {
  override readonly name = 'GatewayUnavailable'
  override readonly code = 'GATEWAY_UNAVAILABLE'
}

/**
 * Money that an order owes, and all that a gateway needs to find out what it has done about it
 * before.
 */
export interface GatewayRequest {
  /** The order's id. */
  key: string
  /** Minor units, above zero. */
  amount: number
  currency: string
  method: string
  /** How long the payment has been recorded, ms: no attempt is older. */
  ageMs: number
}

/**
 * A payment gateway. Every call carries an idempotency key: asked again with the same key it gives
 * the same answer and moves no money twice, however much later. A rejected promise means that the
 * outcome is unknown, and that asking again may help. A call must end when its signal aborts.
 */
export interface PaymentGateway {
  /** @param again is told an answer that arrives once more, before the promise resolves or after */
  charge(
    request: GatewayRequest,
    signal: AbortSignal,
    again: (answer: ChargeResult) => void
  ): Promise<ChargeResult>
  /**
   * Gives back what was charged under the key. Resolves with the amount: 0 when nothing had been
   * charged, and then nothing may be charged under that key later either. What is refused is not
   * asked again: a person settles it.
   * @param request with the `reference` of the charge when its answer was heard
   */
  refund(
    request: GatewayRequest & { reference?: string },
    signal: AbortSignal
  ): Promise<RefundResult>
}
