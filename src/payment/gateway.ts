/** What a gateway says to a charge. */
export type ChargeResult = { outcome: 'charged'; reference: string } | { outcome: 'declined'; reason: string }

/** Money that an order owes, and all that a gateway needs to find out what it has done about it before. */
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
 * A payment gateway. Every call carries an idempotency key: asked again with the same key it gives the same answer and
 * moves no money twice, however much later. A rejected promise means that the outcome is unknown. A call must end when its
 * signal aborts.
 */
export interface PaymentGateway {
  /** @param again is told an answer that arrives once more, before the promise resolves or after */
  charge(request: GatewayRequest, signal: AbortSignal, again: (answer: ChargeResult) => void): Promise<ChargeResult>
  /**
   * Gives back what was charged under the key. Resolves with the amount: 0 when nothing had been charged, and then nothing
   * may be charged under that key later either.
   * @param request with the `reference` of the charge when its answer was heard
   */
  refund(request: GatewayRequest & { reference?: string }, signal: AbortSignal): Promise<{ amount: number }>
}
