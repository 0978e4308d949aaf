import { HttpProblem, moveForRequest, notFound } from 'sagabox/fastify'
import { type Outbox, type SagaHost, statusOf } from 'sagabox'
import { CANCEL_ORDER, CANCELLED } from '../saga/machine.ts'

/**
 * Cancels an order that has not ended; resolves when that is committed, and again for one that was
 * cancelled before. The saga's row decides a race with whatever else would end the order.
 * @throws HttpProblem 404 when there is no such order, 409 when it has ended otherwise, 503 when
 * this process lacks its machine
 */
export async function cancelOrder(outbox: Outbox, saga: SagaHost, orderId: string): Promise<void> {
  const asked = await moveForRequest(outbox, (tx) => saga.ask(tx, orderId, { type: CANCEL_ORDER }))
  if (!asked) throw notFound(`order ${orderId}`)
  const { taken, reason, state, context } = asked
  if (taken || (statusOf(state) === 'Failed' && context.failureReason === CANCELLED)) return
  throw new HttpProblem(
    409,
    `Order ${orderId} can no longer be cancelled: ${reason ?? `it is ${state}`}`
  )
}
