import { assign, setup } from 'xstate'
import { type BodyOf, END, ignore, sagaActions, send } from 'sagabox'
import {
  OrderCompletedEvent,
  type OrderCreatedEvent,
  OrderFailedEvent
} from '../contracts/order.ts'
import { RefundPayment } from '../contracts/payment.ts'
import { ReleaseStock } from '../contracts/stock.ts'
import {
  CANCEL_ORDER,
  CANCELLED,
  RESEND_MS,
  type OrderContext,
  type OrderEvent
} from './machine.ts'

/**
 * The machine of version 1, which completed an order for whatever amount payment named. It is here
 * so that the histories of its orders replay, and for the orders that had left `Suspend` by it.
 * Never change it.
 */
export function orderMachine1(deadlineSeconds: number) {
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
      mayBePaid: ({ context }) => context.mayBePaid
    },
    actions: {
      ...sagaActions,
      setTotal: assign(({ event }) =>
        event.type === 'StockReservedEvent' ? { total: event.total, currency: event.currency } : {}
      ),
      setAmount: assign(({ event }) =>
        event.type === 'PaymentCompletedEvent'
          ? { total: event.amount, currency: event.currency }
          : {}
      ),
      setReason: assign(({ event }) => ('reason' in event ? { failureReason: event.reason } : {})),
      setDeadlineExceeded: assign({ failureReason: 'DeadlineExceeded' }),
      setCancelled: assign({ failureReason: CANCELLED }),
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
          // Payment acts on reserved stock only: its answer settles the order even when it
          // overtakes stock's.
          PaymentCompletedEvent: { target: 'Completed', actions: 'setAmount' },
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
              StockReservedEvent: ignore('stock was reserved before'),
              StockNotReservedEvent: ignore('stock was reserved before'),
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
          StockReservedEvent: ignore(
            'already completed: payment was faster than this answer, or it came twice'
          ),
          StockNotReservedEvent: ignore('already completed'),
          StockReleasedEvent: ignore('already completed: what is released now is a return'),
          PaymentCompletedEvent: ignore('already completed'),
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
