import { batches, type Envelope, type FloorService } from './service.ts'

interface Payment {
  orderId: string
  amount: number
  currency: string
  method: string
}

interface Outcome extends Payment {
  reason: string | null
}

/** Pending is committed before the gateway is asked; its answers are recorded with their events. */
export async function startPayment(service: FloorService): Promise<void> {
  const record = batches(async (outcomes: Outcome[]) => {
    await service.transaction(async (sql) => {
      void sql(
        'record',
        `update payments set status = outcome.status, failure_reason = outcome.reason, gateway_reference = outcome.reference, next_attempt_at = null, updated_at = now()
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as outcome (id, status, reason,
           reference) where order_id = any($1::uuid[]) and order_id = id
           and payments.status = 'Pending'`,
        [
          outcomes.map(({ orderId }) => orderId),
          outcomes.map(({ reason }) => (reason ? 'Failed' : 'Completed')),
          outcomes.map(({ reason }) => reason),
          outcomes.map(({ orderId, reason }) => (reason ? null : `sim_${orderId}`))
        ]
      )
      return outcomes.map(({ orderId, amount, currency, reason }) =>
        reason
          ? { type: 'PaymentFailedEvent', body: { orderId, reason } }
          : { type: 'PaymentCompletedEvent', body: { orderId, amount, currency } }
      )
    })
  })
  let taken: Payment[] = []
  await service.consume(
    async (messages, sql) => {
      taken = messages.map(paymentOf)
      await sql(
        'take',
        `insert into payments (order_id, status, amount, currency, payment_method, attempts, next_attempt_at)
         select id, 'Pending', amount, currency, method, 1, now() + interval '30 seconds'
           from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) as taken (id, amount,
           currency, method)`,
        [
          taken.map(({ orderId }) => orderId),
          taken.map(({ amount }) => amount),
          taken.map(({ currency }) => currency),
          taken.map(({ method }) => method)
        ]
      )
      return []
    },
    () => {
      for (const payment of taken.splice(0))
        void charge(payment).then((reason) => record({ ...payment, reason }))
    }
  )
}

function paymentOf({ body }: Envelope): Payment {
  return {
    orderId: body['orderId'] as string,
    amount: body['total'] as number,
    currency: body['currency'] as string,
    method: body['paymentMethod'] as string
  }
}

/** The simulated gateway. */
async function charge({ method }: Payment): Promise<string | null> {
  return method === 'pm_card_chargeDeclined' ? 'CardDeclined' : null
}
