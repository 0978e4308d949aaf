import t from 'tap'
import { shopTopology } from '../../src/shop.ts'
import { advance } from '../../packages/sagabox/src/testing/advance.ts'
import { settled } from '../../packages/sagabox/src/testing/settled.ts'
import { GatedTransport } from '../support/gated-transport.ts'
import { orderSagas, startSystem, watched } from '../support/system.ts'
import { until } from '../support/until.ts'

for (const transport of ['memory', 'rabbitmq'] as const) {
  t.test(
    `${transport}: settled waits for messages on their way, and says what moves`,
    async (t) => {
      let gate!: GatedTransport
      const { api, system } = await startSystem(t, transport, {
        wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
      })
      await api.putProduct('keyboard', 10)
      gate.hold('stock', 'OrderCreatedEvent')
      const orderId = await api.placeOrder()
      await until('stock is given the order', async () => gate.onTheWay === 1)
      await t.rejects(settled(watched(system, gate), 0), {
        message: /^Not settled after 0 s: 1 messages before an endpoint/
      })
      gate.release('stock', 'OrderCreatedEvent')
      await api.settled(orderId)
      await settled(watched(system, gate))
      t.equal(gate.onTheWay, 0)
      t.match(await api.get('/ops/order/outbox'), { pending: 0 })
      await t.rejects(
        settled({ ...watched(system, gate), busy: async () => 'a payment is asked for' }, 0),
        { message: 'Not settled after 0 s: a payment is asked for' }
      )
    }
  )
}

t.test(
  'advance makes the timers of some or all instances due, and settled waits until they have fired',
  async (t) => {
    let gate!: GatedTransport
    const { api, system } = await startSystem(t, 'memory', {
      wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
    })
    await api.putProduct('keyboard', 10)
    gate.hold('payment', 'StockReservedEvent')
    const [first, second] = [await api.placeOrder(), await api.placeOrder()]
    for (const orderId of [first, second])
      await until(
        'stock is reserved',
        async () => (await api.get(`/sagas/${orderId}`)).state === 'Suspend.takingPayment'
      )
    const dueAt = async (orderId: string): Promise<string> =>
      (await api.get(`/sagas/${orderId}`)).timers[0].dueAt
    const before = await dueAt(first)
    const sagas = orderSagas(system)
    await advance(sagas, '10s', [first])
    t.equal(Date.parse(before) - Date.parse(await dueAt(first)), 10_000)
    const [row]: { next: Date }[] = await sagas.database.rows(
      'select next_timer_at as next from saga where saga_id = $1',
      [first]
    )
    t.equal(row!.next.toISOString(), await dueAt(first))

    await advance(sagas, '20s', [first])
    await until(
      'the deadline has passed',
      async () => (await api.get(`/orders/${first}`)).status === 'Failed'
    )
    t.match(await api.get(`/orders/${second}`), { status: 'Suspend' })
    await advance(sagas, '31s')
    await until(
      'the other has passed too',
      async () => (await api.get(`/orders/${second}`)).status === 'Failed'
    )
    gate.release('payment', 'StockReservedEvent')
    await settled(watched(system, gate))
    for (const orderId of [first, second])
      t.match(await api.get(`/orders/${orderId}`), {
        status: 'Failed',
        failureReason: 'DeadlineExceeded'
      })

    await sagas.database.rows(
      `
        insert into saga (saga, saga_id, state, value, context, version, timers,
          next_timer_at) select 'parcel', saga_id, state, value, context, version, '[]', now()
          from saga where saga_id = $1`,
      [first]
    )
    await t.rejects(
      settled({ ...watched(system, gate), sagas: [{ ...sagas, name: 'parcel' }] }, 0),
      { message: 'Not settled after 0 s: 1 parcel sagas with a timer that is due' }
    )
  }
)
