// Texts of services that are not ours: only their length is limited.
import t from 'tap'
import { EnvelopeReader } from '../../packages/sagabox/src/messaging/message/envelope.ts'
import type { Contract } from '../../packages/sagabox/src/messaging/message/message.ts'
import { OrderCreatedEvent, OrderFailedEvent } from '../../src/contracts/order.ts'
import { PaymentFailedEvent } from '../../src/contracts/payment.ts'
import { StockNotReservedEvent } from '../../src/contracts/stock.ts'

const orderId = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const read = (contract: Contract, message: object) =>
  new EnvelopeReader([contract]).read(
    JSON.stringify({ messageId: orderId, messageType: [contract.urn], message })
  ).body

t.test('a reason with a colon, an exception, a customer with a space, nulls', async (t) => {
  const exception = `System.InvalidOperationException: it broke\n   at Stock.Consume(Order o) in C:\\Stock.cs:line 7`
  for (const reason of ['Sold out: try again', exception, 'kein Lager mehr – später', ''])
    for (const contract of [StockNotReservedEvent, PaymentFailedEvent])
      t.same(read(contract, { orderId, reason, productId: null }), {
        orderId,
        reason,
        ...(contract === PaymentFailedEvent && { productId: null })
      })
  const order = {
    orderId,
    customerId: 'Ada Lovelace',
    items: [{ productId: 'Blue chair: 2 seats', quantity: 1 }],
    paymentMethod: 'pm_card_visa',
    expectedTotal: null
  }
  t.match(read(OrderCreatedEvent, order), { customerId: 'Ada Lovelace', items: order.items })
  t.match(read(OrderFailedEvent, { orderId, customerId: 'Ada Lovelace', reason: exception }), {
    reason: exception
  })
})

t.test('what is longer than anybody means is refused with its path', async (t) => {
  const reason = 'x'.repeat(4001)
  t.throws(() => read(PaymentFailedEvent, { orderId, reason }), { message: /^message\.reason: / })
  const order = { orderId, items: [{ productId: 'a', quantity: 1 }], paymentMethod: 'pm_a' }
  t.throws(() => read(OrderCreatedEvent, { ...order, customerId: 'x'.repeat(257) }), {
    message: /^message\.customerId: /
  })
})
