import { statement, write } from 'sagabox/engine'
import { defineSaga, pathOf, type SagaChange, statusOf, type Tx } from 'sagabox'
import { OrderCreatedEvent } from '../contracts/order.ts'
import {
  PaymentCompletedEvent,
  PaymentFailedEvent,
  PaymentRefundedEvent,
  RefundPayment
} from '../contracts/payment.ts'
import {
  ReleaseStock,
  StockNotReservedEvent,
  StockReleasedEvent,
  StockReservedEvent
} from '../contracts/stock.ts'
import { CANCEL_ORDER, ORDER_EVENTS, orderMachine, type OrderContext } from './machine.ts'
import { orderMachine1 } from './machine-1.ts'

// An order ends once: whatever the saga still undoes afterwards no longer changes the order's
// status. Each order is looked up by its key, then updated where it was found: see
// packages/sagabox/src/saga/store/rows.ts.
const END_ORDERS = statement(`
  update orders set status = ended.status, failure_reason = ended.failure_reason,
    total = ended.total, currency = ended.currency, updated_at = now()
  from (
    select ended.*, found.ctid
    from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[]) as ended (order_id,
      status, failure_reason, total, currency),
      lateral (select ctid as ctid from orders where orders.order_id = ended.order_id
        and orders.status = 'Suspend' for update) as found
  ) as ended
  where orders.ctid = ended.ctid`)

/** @param deadlineSeconds how long an order may stay `Suspend` */
export function orderSaga(deadlineSeconds: number) {
  return defineSaga({
    name: 'order',
    machine: orderMachine(deadlineSeconds),
    version: 2,
    previous: { 1: orderMachine1(deadlineSeconds) },
    // The states are the same, and what version 1 would sell at any price must not be sold.
    migrate: ({ value, context }, from) =>
      from === 1 && statusOf(pathOf(value)) === 'Suspend' ? { value, context } : undefined,
    startedBy: OrderCreatedEvent,
    startsInTransaction: true,
    handles: ORDER_EVENTS,
    asks: [CANCEL_ORDER],
    cancelBy: CANCEL_ORDER,
    effects: [
      {
        doneBy: StockReservedEvent,
        undoneBy: ReleaseStock,
        clearedBy: [StockReleasedEvent, StockNotReservedEvent]
      },
      {
        doneBy: PaymentCompletedEvent,
        undoneBy: RefundPayment,
        clearedBy: [PaymentRefundedEvent, PaymentFailedEvent]
      }
    ],
    pointOfNoReturn: 'Completed',
    project: endOrders
  })
}

async function endOrders(tx: Tx, changes: readonly SagaChange[]): Promise<void> {
  const ended = changes.filter(({ status }) => status !== 'Suspend')
  if (ended.length === 0) return
  const contexts = ended.map(({ context }) => context as unknown as OrderContext)
  void write(tx, END_ORDERS, [
    ended.map(({ sagaId }) => sagaId),
    ended.map(({ status }) => status),
    contexts.map(({ failureReason }) => failureReason),
    contexts.map(({ total }) => total),
    contexts.map(({ currency }) => currency)
  ])
}
