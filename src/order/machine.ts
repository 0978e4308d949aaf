import { assign, setup } from 'xstate'
import { OrderCompletedEvent, OrderCreatedEvent, OrderFailedEvent } from '../contracts/order.ts'
import { PaymentCompletedEvent, PaymentFailedEvent, PaymentRefundedEvent, RefundPayment } from '../contracts/payment.ts'
import { ReleaseStock, StockNotReservedEvent, StockReleasedEvent, StockReservedEvent } from '../contracts/stock.ts'
import type { BodyOf } from '../messaging/message.ts'
import { send, sendAction } from '../saga/define.ts'

export interface OrderContext {
  orderId: string
  customerId: string
  /** Known once stock has priced the order. */
  total: number | null
  currency: string | null
  failureReason: string | null
  /** Money may have been taken, or may yet be: the order must not settle before payment has answered a refund. */
  mayBePaid: boolean
}

type OrderEvent =
  | ({ type: 'StockReservedEvent' } & BodyOf<typeof StockReservedEvent>)
  | ({ type: 'StockNotReservedEvent' } & BodyOf<typeof StockNotReservedEvent>)
  | ({ type: 'StockReleasedEvent' } & BodyOf<typeof StockReleasedEvent>)
  | ({ type: 'PaymentCompletedEvent' } & BodyOf<typeof PaymentCompletedEvent>)
  | ({ type: 'PaymentFailedEvent' } & BodyOf<typeof PaymentFailedEvent>)
  | ({ type: 'PaymentRefundedEvent' } & BodyOf<typeof PaymentRefundedEvent>)

/** The events that move an order. */
export const ORDER_EVENTS = [StockReservedEvent, StockNotReservedEvent, StockReleasedEvent, PaymentCompletedEvent, PaymentFailedEvent, PaymentRefundedEvent]

/**
 * What happens to an order. Stock and payment act on each other's events; the machine listens, owns the outcome and
 * undoes what was done. The two publish independently, so their events may overtake each other.
 * @param deadlineSeconds how long an order may stay `Suspend`
 */
export function orderMachine(deadlineSeconds: number) {
  return setup({
    // oxlint-disable-next-line typescript/no-unnecessary-type-assertion -- XState infers its types from the assertion
    types: {} as { context: OrderContext; input: BodyOf<typeof OrderCreatedEvent>; events: OrderEvent },
    delays: { deadline: deadlineSeconds * 1000 },
    guards: {
      stockReserved: ({ context }) => context.total !== null,
      mayBePaid: ({ context }) => context.mayBePaid
    },
    actions: {
      send: sendAction,
      setTotal: assign(({ event }) => (event.type === 'StockReservedEvent' ? { total: event.total, currency: event.currency } : {})),
      setAmount: assign(({ event }) => (event.type === 'PaymentCompletedEvent' ? { total: event.amount, currency: event.currency } : {})),
      setReason: assign(({ event }) => ('reason' in event ? { failureReason: event.reason } : {})),
      setDeadlineExceeded: assign({ failureReason: 'DeadlineExceeded' }),
      expectMoney: assign({ mayBePaid: true }),
      expectNoMoney: assign({ mayBePaid: false })
    }
  }).createMachine({
    id: 'order',
    context: ({ input: { orderId, customerId } }) => ({ orderId, customerId, total: null, currency: null, failureReason: null, mayBePaid: false }),
    initial: 'Suspend',
    states: {
      Suspend: {
        initial: 'reservingStock',
        on: {
          // Payment acts on reserved stock only: its answer settles the order even when it overtakes stock's.
          PaymentCompletedEvent: { target: 'Completed', actions: 'setAmount' },
          PaymentFailedEvent: { target: 'Failed.releasingStock', actions: 'setReason' }
        },
        states: {
          reservingStock: {
            on: {
              StockReservedEvent: { target: 'takingPayment', actions: 'setTotal' },
              StockNotReservedEvent: { target: '#order.Failed.settled', actions: 'setReason' }
            }
          },
          takingPayment: {}
        },
        after: {
          deadline: [
            { guard: 'stockReserved', target: 'Failed.releasingStock', actions: ['setDeadlineExceeded', 'expectMoney'] },
            { target: 'Failed.releasingStock', actions: 'setDeadlineExceeded' }
          ]
        }
      },
      Completed: {
        entry: send(OrderCompletedEvent, ({ orderId, customerId, total, currency }: OrderContext) => ({ orderId, customerId, total: total ?? 0, currency: currency ?? '' }))
      },
      Failed: {
        initial: 'releasingStock',
        entry: send(OrderFailedEvent, ({ orderId, customerId, failureReason }: OrderContext) => ({ orderId, customerId, reason: failureReason ?? 'Unknown' })),
        states: {
          releasingStock: {
            entry: send(ReleaseStock, ({ orderId }: OrderContext) => ({ orderId })),
            on: {
              StockReleasedEvent: [{ guard: 'mayBePaid', target: 'refunding' }, { target: 'settled' }],
              StockReservedEvent: { actions: 'expectMoney' },
              PaymentCompletedEvent: { actions: 'expectMoney' },
              PaymentFailedEvent: { actions: 'expectNoMoney' }
            }
          },
          refunding: {
            entry: send(RefundPayment, ({ orderId }: OrderContext) => ({ orderId })),
            on: { PaymentRefundedEvent: { target: 'settled', actions: 'expectNoMoney' } }
          },
          settled: {
            on: {
              // Late answers to an order that has failed: what they did is undone too.
              StockReservedEvent: { target: 'releasingStock', actions: 'expectMoney' },
              PaymentCompletedEvent: { target: 'refunding', actions: 'expectMoney' }
            }
          }
        }
      }
    }
  })
}
