/** What a gateway says to a charge. */
export type ChargeResult = { outcome: 'charged'; reference: string } | { outcome: 'declined'; reason: string }

/**
 * A payment gateway. Every call carries an idempotency key: asked again with the same key it gives the same answer and
 * moves no money twice. A rejected promise means that the outcome is unknown. A call
 * must end when its signal aborts.
 */
export interface PaymentGateway {
  charge(request: { key: string; amount: number; currency: string; method: string }, signal: AbortSignal): Promise<ChargeResult>
  /**
   * Gives back what was charged under the key. Resolves with the amount: 0 when nothing had been charged, and then nothing
   * may be charged under that key later either.
   */
  refund(request: { key: string; amount: number; method: string }, signal: AbortSignal): Promise<{ amount: number }>
}
