import t from 'tap'
import { ORDER_EVENTS } from '../../src/saga/machine.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { OrderCreatedEvent } from '../../src/contracts/order.ts'
import {
  message,
  type BodyOf,
  type Contract
} from '../../packages/sagabox/src/messaging/message/message.ts'
import { statusOf } from '../../packages/sagabox/src/saga/machine/state.ts'
import { tell, type Story } from '../../packages/sagabox/src/testing/story.ts'
import {
  scenarios,
  type ExpectedOrder,
  type ExpectedStep,
  type Scenario
} from '../support/scenario.ts'

const ORDER_ID = '01890000-0000-7000-8000-000000000001'

const saga = orderSaga(30)

for (const [file, scenario] of scenarios()) {
  t.test(`${file}: ${scenario.title}`, (t) => {
    for (const [name, expected] of Object.entries(scenario.expect.orders)) {
      const bodies = bodiesOf(scenario, expected)
      const [, ...steps] = expected.history
      let story = tell(saga).given(
        message(OrderCreatedEvent, bodies['OrderCreatedEvent'] as BodyOf<typeof OrderCreatedEvent>)
      )
      for (const [index, { event, body, earlier }] of steps.entries()) {
        if (earlier) continue
        story = happens(story, event, { ...bodies, [event]: { ...bodies[event], ...body } })
        // What was deferred comes again in the same step.
        const next = steps.slice(index + 1).findIndex((step) => !step.earlier)
        const woken = steps.slice(index, next === -1 ? undefined : index + 1 + next)
        const { to } = woken.at(-1)!
        const sent = woken.flatMap((step) => step.sent ?? [])
        t.same(
          { to: story.state, sent: story.sent.map(({ contract }) => contract.name) },
          { to, sent },
          `${name}: ${event}`
        )
        story = story.then(to, story.sent)
      }
      t.equal(story.history.length, expected.history.length, 'no timer fired beside those expected')
      t.equal(statusOf(story.state), expected.status)
      t.equal(story.context['failureReason'], expected.failureReason ?? null)
      t.same(story.timers, [], 'no timer is left')
    }
    t.end()
  })
}

/** A timer's event comes when its time has come, any other at once. */
function happens(
  story: Story,
  event: ExpectedStep['event'],
  bodies: Record<string, Record<string, unknown>>
): Story {
  const timer = story.timers.find((pending) => pending.event === event)
  if (timer) return story.advance(timer.dueInMs)
  const contract = ORDER_EVENTS.find(({ name }) => name === event)
  return story.when(
    contract ? message(contract as Contract, bodies[event] as BodyOf<Contract>) : { type: event }
  )
}

/** What each event says, as the services would write it. */
function bodiesOf(
  { products, orders }: Scenario,
  { failureReason }: ExpectedOrder
): Record<string, Record<string, unknown>> {
  const { items = [{ productId: 'keyboard', quantity: 1 }], paymentMethod = 'pm_card_visa' } =
    Object.values(orders)[0]!
  const total = items.reduce(
    (sum, { productId, quantity }) => sum + (products[productId]?.unitPrice ?? 0) * quantity,
    0
  )
  const order = { orderId: ORDER_ID, customerId: 'ada', items, paymentMethod }
  return {
    OrderCreatedEvent: order,
    StockReservedEvent: { ...order, total, currency: 'EUR' },
    StockNotReservedEvent: { orderId: ORDER_ID, reason: failureReason },
    StockReleasedEvent: { orderId: ORDER_ID },
    PaymentCompletedEvent: { orderId: ORDER_ID, amount: total, currency: 'EUR' },
    PaymentFailedEvent: { orderId: ORDER_ID, reason: failureReason },
    PaymentRefundedEvent: { orderId: ORDER_ID, amount: total }
  }
}
