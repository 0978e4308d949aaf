import t from 'tap'
import { orderMachine, type OrderContext } from '../src/order/machine.ts'
import { eventName } from '../src/saga/diagram.ts'
import { begin, statusOf, step, type Step, type TimerStart } from '../src/saga/step.ts'
import { scenarios, type ExpectedOrder, type Scenario } from './support/scenario.ts'

const ORDER_ID = '01890000-0000-7000-8000-000000000001'

for (const [file, scenario] of scenarios()) {
  t.test(`${file}: ${scenario.title}`, (t) => {
    for (const [name, expected] of Object.entries(scenario.expect.orders)) {
      const machine = orderMachine(30)
      const bodies = bodiesOf(scenario, expected)
      let timers: TimerStart[] = []
      let last: Step | undefined
      for (const [index, { event, to, sent = [] }] of expected.history.entries()) {
        const type = timers.find((timer) => eventName(timer.event) === event)?.event ?? event
        last = last ? step(machine, last.snapshot, { ...bodies[event], type }) : begin(machine, bodies[event])
        timers = [...timers.filter(({ id }) => !last!.timersCancelled.includes(id) && id !== type), ...last.timersStarted]
        t.same({ to: last.to, sent: last.sends.map(({ contract }) => contract.name) }, { to, sent }, `${name}, step ${index + 1}: ${event}`)
      }
      t.equal(statusOf(last!.to), expected.status)
      t.equal((last!.snapshot.context as OrderContext).failureReason, expected.failureReason ?? null)
      t.same(timers, [], 'no timer is left')
    }
    t.end()
  })
}

/** What each event says, as the services would write it. */
function bodiesOf({ products, orders }: Scenario, { failureReason }: ExpectedOrder): Record<string, Record<string, unknown>> {
  const { items = [{ productId: 'keyboard', quantity: 1 }], paymentMethod = 'pm_card_visa' } = Object.values(orders)[0]!
  const total = items.reduce((sum, { productId, quantity }) => sum + (products[productId]?.unitPrice ?? 0) * quantity, 0)
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
