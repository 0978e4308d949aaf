import t from 'tap'
import { startSystem } from '../support/system.ts'

for (const transport of ['memory', 'rabbitmq'] as const) {
  t.test(
    `${transport}: an order becomes Completed, and what it took is accounted for`,
    async (t) => {
      const { api } = await startSystem(t, transport)
      await api.putProduct('keyboard', 10, 8900)
      await api.putProduct('mouse', 10, 3900)
      const orderId = await api.placeOrder({
        items: [
          { productId: 'keyboard', quantity: 1 },
          { productId: 'mouse', quantity: 2 },
          { productId: 'keyboard', quantity: 1 }
        ],
        expectedTotal: 25_600
      })
      const saga = await api.settled(orderId)
      t.match(saga, {
        sagaId: orderId,
        status: 'Completed',
        state: 'Completed',
        version: 3,
        accepts: [],
        timers: []
      })
      t.match(await api.get(`/orders/${orderId}`), {
        orderId,
        status: 'Completed',
        failureReason: null,
        total: 25_600,
        currency: 'EUR'
      })
      t.match(
        await api.get('/products/keyboard'),
        { onHand: 8, reserved: 2 },
        'two lines of one product are one demand'
      )
      t.match(await api.get('/products/mouse'), { onHand: 8, reserved: 2 })
      t.match(await api.get(`/reservations/${orderId}`), {
        status: 'Reserved',
        total: 25_600,
        lines: [
          { productId: 'keyboard', quantity: 2 },
          { productId: 'mouse', quantity: 2 }
        ]
      })
      t.match(await api.get(`/payments/${orderId}`), {
        status: 'Completed',
        amount: 25_600,
        attempts: 1
      })
      t.match(await api.get(`/sagas/${orderId}/replay`), {
        consistent: true,
        steps: 3,
        firstDifference: null
      })
    }
  )

  t.test(`${transport}: a declined card ends in Failed with the stock returned`, async (t) => {
    const { api } = await startSystem(t, transport)
    await api.putProduct('keyboard', 1)
    const orderId = await api.placeOrder({
      paymentMethod: 'pm_card_chargeDeclinedInsufficientFunds'
    })
    const saga = await api.settled(orderId)
    t.match(saga, { status: 'Failed', state: 'Failed.settled' })
    t.match(await api.get(`/orders/${orderId}`), {
      status: 'Failed',
      failureReason: 'InsufficientFunds'
    })
    t.match(await api.get('/products/keyboard'), { onHand: 1, reserved: 0 })
    t.match(await api.get(`/reservations/${orderId}`), { status: 'Released' })
    t.match(await api.get(`/payments/${orderId}`), {
      status: 'Failed',
      failureReason: 'InsufficientFunds',
      refundedAmount: 0
    })
  })
}
