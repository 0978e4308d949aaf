import { assign, setup } from 'xstate'
import { type BodyOf, defer, END, ignore, sagaActions, send } from 'sagabox'
import { OrderCompletedEvent, OrderCreatedEvent, OrderFailedEvent } from '../contracts/order.ts'
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

export interface OrderContext {
  orderId: string
  customerId: string
  /** Known once stock has priced the order. */
  total: number | null
  currency: string | null
  failureReason: string | null
  /**
   * Money may have been taken, or may yet be: the order must not settle before payment has answered
   * a refund.
   */
  mayBePaid: boolean
}

export type OrderEvent =
  | ({ type: 'StockReservedEvent' } & BodyOf<typeof StockReservedEvent>)
  | ({ type: 'StockNotReservedEvent' } & BodyOf<typeof StockNotReservedEvent>)
  | ({ type: 'StockReleasedEvent' } & BodyOf<typeof StockReleasedEvent>)
  | ({ type: 'PaymentCompletedEvent' } & BodyOf<typeof PaymentCompletedEvent>)
  | ({ type: 'PaymentFailedEvent' } & BodyOf<typeof PaymentFailedEvent>)
  | ({ type: 'PaymentRefundedEvent' } & BodyOf<typeof PaymentRefundedEvent>)
  | { type: typeof CANCEL_ORDER }

/** The customer changes their mind: no message, but a request. */
export const CANCEL_ORDER = 'CancelOrder'
export const CANCELLED = 'Cancelled'

/**
 * Payment took another amount than stock asked, or two prices were named: nothing is sold for that.
 */
export const AMOUNT_MISMATCH = 'AmountMismatch'

/** Until stock or payment answers what undoes an order, it is asked again, less and less often. */
export const RESEND_MS = 30_000

const MISMATCH = {
  target: '#order.Failed.releasingStock',
  actions: ['setMismatch', 'expectMoney']
} as const

/** The events that move an order. */
export const ORDER_EVENTS = [
  StockReservedEvent,
  StockNotReservedEvent,
  StockReleasedEvent,
  PaymentCompletedEvent,
  PaymentFailedEvent,
  PaymentRefundedEvent
]

/**
 * What happens to an order. Stock and payment act on each other's events; the machine listens, owns
 * the outcome and undoes what was done. The two publish independently, so their events may overtake
 * each other. Nothing is sold but for what stock asked: docs/explanation/how-it-works.md, "Who is
 * believed".
 * @param deadlineSeconds how long an order may stay `Suspend`
 */
export function orderMachine(deadlineSeconds: number) {
  return setup({
    // oxlint-disable-next-line typescript/no-unnecessary-type-assertion -- XState infers its types from the assertion
    types: {} as {
      context: OrderContext
      input: BodyOf<typeof OrderCreatedEvent>
      events: OrderEvent
    },
    delays: { deadline: deadlineSeconds * 1000, resend: RESEND_MS },
    guards: {
      stockReserved: ({ context }) => context.total !== null,
      isPaidInFull: ({ context: { total, currency }, event }) =>
        event.type === 'PaymentCompletedEvent' &&
        event.amount === total &&
        event.currency === currency,
      isSamePrice: ({ context: { total, currency }, event }) =>
        event.type === 'StockReservedEvent' && event.total === total && event.currency === currency,
      mayBePaid: ({ context }) => context.mayBePaid
    },
    actions: {
      ...sagaActions,
      setTotal: assign(({ event }) =>
        event.type === 'StockReservedEvent' ? { total: event.total, currency: event.currency } : {}
      ),
      setReason: assign(({ event }) => ('reason' in event ? { failureReason: event.reason } : {})),
      setDeadlineExceeded: assign({ failureReason: 'DeadlineExceeded' }),
      setCancelled: assign({ failureReason: CANCELLED }),
      setMismatch: assign({ failureReason: AMOUNT_MISMATCH }),
      setStockGone: assign({ failureReason: 'StockReleased' }),
      expectMoney: assign({ mayBePaid: true }),
      expectNoMoney: assign({ mayBePaid: false })
    }
  }).createMachine({
    id: 'order',
    context: ({ input: { orderId, customerId } }) => ({
      orderId,
      customerId,
      total: null,
      currency: null,
      failureReason: null,
      mayBePaid: false
    }),
    initial: 'Suspend',
    states: {
      Suspend: {
        initial: 'reservingStock',
        on: {
          // It may overtake stock's answer; what it is worth is known once stock has priced the
          // order.
          PaymentCompletedEvent: defer(),
          PaymentFailedEvent: { target: 'Failed.releasingStock', actions: 'setReason' },
          PaymentRefundedEvent: ignore('nobody asked for it; payment answers the order by itself'),
          [CANCEL_ORDER]: [
            {
              guard: 'stockReserved',
              target: 'Failed.releasingStock',
              actions: ['setCancelled', 'expectMoney']
            },
            { target: 'Failed.releasingStock', actions: 'setCancelled' }
          ]
        },
        states: {
          reservingStock: {
            on: {
              StockReservedEvent: { target: 'takingPayment', actions: 'setTotal' },
              StockNotReservedEvent: { target: '#order.Failed.settled', actions: 'setReason' },
              StockReleasedEvent: ignore('nobody asked for it; stock answers the order by itself')
            }
          },
          takingPayment: {
            on: {
              StockReservedEvent: [
                { guard: 'isSamePrice', ...ignore('stock was reserved before') },
                MISMATCH
              ],
              StockNotReservedEvent: ignore('stock was reserved before'),
              PaymentCompletedEvent: [
                { guard: 'isPaidInFull', target: '#order.Completed' },
                MISMATCH
              ],
              // Released by hand: what is no longer held must not be sold.
              StockReleasedEvent: {
                target: '#order.Failed.releasingStock',
                actions: ['setStockGone', 'expectMoney']
              }
            }
          }
        },
        after: {
          deadline: [
            {
              guard: 'stockReserved',
              target: 'Failed.releasingStock',
              actions: ['setDeadlineExceeded', 'expectMoney']
            },
            { target: 'Failed.releasingStock', actions: 'setDeadlineExceeded' }
          ]
        }
      },
      Completed: {
        tags: END,
        entry: send(
          OrderCompletedEvent,
          ({ orderId, customerId, total, currency }: OrderContext) => ({
            orderId,
            customerId,
            total: total ?? 0,
            currency: currency ?? ''
          })
        ),
        on: {
          StockReservedEvent: [
            { guard: 'isSamePrice', ...ignore('already completed: it came twice') },
            ignore('already completed, and this is another price: who beside stock names prices?')
          ],
          StockNotReservedEvent: ignore('already completed'),
          StockReleasedEvent: ignore('already completed: what is released now is a return'),
          PaymentCompletedEvent: [
            { guard: 'isPaidInFull', ...ignore('already completed') },
            ignore('already completed, and this is another amount: who beside payment takes money?')
          ],
          PaymentFailedEvent: ignore('already completed: the order was paid'),
          PaymentRefundedEvent: ignore('already completed: what is refunded now is a return'),
          [CANCEL_ORDER]: ignore('it is completed')
        }
      },
      Failed: {
        initial: 'releasingStock',
        entry: send(OrderFailedEvent, ({ orderId, customerId, failureReason }: OrderContext) => ({
          orderId,
          customerId,
          reason: failureReason ?? 'Unknown'
        })),
        on: { [CANCEL_ORDER]: ignore('it has failed') },
        states: {
          releasingStock: {
            entry: send(ReleaseStock, ({ orderId }: OrderContext) => ({ orderId })),
            on: {
              StockReleasedEvent: [
                { guard: 'mayBePaid', target: 'refunding' },
                { target: 'settled' }
              ],
              StockReservedEvent: { actions: 'expectMoney' },
              StockNotReservedEvent: ignore('nothing was taken; stock still answers the release'),
              PaymentCompletedEvent: { actions: 'expectMoney' },
              PaymentFailedEvent: { actions: 'expectNoMoney' },
              PaymentRefundedEvent: ignore('payment is asked, if need be, when the stock is back')
            },
            after: { resend: { target: 'releasingStock', reenter: true } }
          },
          refunding: {
            entry: send(RefundPayment, ({ orderId }: OrderContext) => ({ orderId })),
            on: {
              PaymentRefundedEvent: { target: 'settled', actions: 'expectNoMoney' },
              PaymentCompletedEvent: ignore('its refund is under way'),
              PaymentFailedEvent: ignore('payment still answers the refund'),
              StockReservedEvent: ignore('stock was released before'),
              StockNotReservedEvent: ignore('stock was released before'),
              StockReleasedEvent: ignore('stock was released before')
            },
            after: { resend: { target: 'refunding', reenter: true } }
          },
          settled: {
            tags: END,
            on: {
              // Late answers to an order that has failed: what they did is undone too.
              StockReservedEvent: { target: 'releasingStock', actions: 'expectMoney' },
              PaymentCompletedEvent: { target: 'refunding', actions: 'expectMoney' },
              StockNotReservedEvent: ignore('already failed, and nothing was taken'),
              StockReleasedEvent: ignore('already released'),
              PaymentFailedEvent: ignore('already failed, and no money was taken'),
              PaymentRefundedEvent: ignore('already refunded')
            }
          }
        }
      }
    }
  })
}
