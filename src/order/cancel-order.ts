import { type Audit, HttpProblem, moveForRequest, notFound } from 'sagabox/fastify'
import { type Outbox, type SagaHost, statusOf } from 'sagabox'
import { CANCEL_ORDER, CANCELLED } from '../saga/machine.ts'

type Asked = NonNullable<Awaited<ReturnType<SagaHost['ask']>>>

/**
 * Cancels an order that has not ended; resolves when that is committed, and again for one that was
 * cancelled before. The saga's row decides a race with whatever else would end the order.
 * @throws HttpProblem 404 when there is no such order, 409 when it has ended otherwise, 503 when
 * this process lacks its machine
 */
export async function cancelOrder(
  outbox: Outbox,
  saga: SagaHost,
  orderId: string,
  audit: Audit
): Promise<void> {
  const asked = await moveForRequest(outbox, async (tx) => {
    const move = await saga.ask(tx, orderId, { type: CANCEL_ORDER })
    if (move && isCancelled(move)) audit(tx)
    return move
  })
  if (!asked) throw notFound(`order ${orderId}`)
  if (isCancelled(asked)) return
  const { reason, state } = asked
  throw new HttpProblem(
    409,
    `Order ${orderId} can no longer be cancelled: ${reason ?? `it is ${state}`}`
  )
}

/** By this request, or by one before. */
function isCancelled({ taken, state, context }: Asked): boolean {
  return taken || (statusOf(state) === 'Failed' && context.failureReason === CANCELLED)
}
