// How long instances wait, and the machine as a picture: over HTTP, with the real machine.
import t from 'tap'
import { shopTopology } from '../../src/shop.ts'
import { GatedTransport } from '../support/gated-transport.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(180_000)

t.test('ages by state, and the sentence about those that are late', async (t) => {
  let gate!: GatedTransport
  const { api, system } = await startSystem(t, 'memory', {
    wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
  })
  await api.putProduct('keyboard', 100)
  const ended = await Promise.all(Array.from({ length: 20 }, () => api.placeOrder()))
  for (const id of ended) await api.settled(id)
  gate.hold('payment', 'StockReservedEvent')
  const ids = [await api.placeOrder(), await api.placeOrder()]
  for (const id of ids)
    await until('it is priced', async () => (await api.get(`/sagas/${id}`)).version === 2)
  const { database } = system.service('order')
  await database.rows(
    `update saga set updated_at = now() - interval '5 minutes' where saga_id = $1`,
    [ids[0]]
  )
  await system
    .service('payment')
    .database.rows(`update inbox set handled_at = now() - interval '4 minutes'`)
  const { states, sentence, atLeast } = await api.get('/sagas/ages')
  t.match(states, [
    {
      state: 'Suspend.takingPayment',
      counts: { '<1m': 0, '<10m': 1, '<1h': 0, older: 0 },
      p95Ms: Number,
      late: Number
    }
  ])
  t.equal(atLeast, false)
  t.match(
    sentence,
    /^[12] instances? waits? in Suspend\.takingPayment longer than usual \(95 of 100 leave it within \d+ s\): payment has handled nothing for 4 min\.$/
  )
  t.match(await api.call('GET', '/sagas/ages?x=1'), { status: 400 })
})

t.test('where nothing waits', async (t) => {
  const { api } = await startSystem(t, 'memory')
  t.match(await api.get('/sagas/ages'), {
    states: [],
    atLeast: false,
    sentence: 'Nothing waits longer than usual.'
  })
})

t.test('the machine as a picture, with its contracts', async (t) => {
  const { api } = await startSystem(t, 'memory')
  const drawn = await api.get('/sagas/order/definition')
  t.match(drawn, { saga: 'order', version: Number, width: Number, height: Number })
  t.match(
    drawn.states.find(({ path }: { path: string }) => path === 'Suspend'),
    { kind: 'compound', x: Number, y: Number, width: Number, height: Number }
  )
  t.match(
    drawn.edges.find(({ event }: { event: string }) => event === 'after deadline'),
    { from: 'Suspend', to: 'Failed.releasingStock', isTimer: true, delayMs: 30_000 }
  )
  t.match(
    drawn.contracts.find(({ name }: { name: string }) => name === 'StockReservedEvent'),
    {
      urn: 'urn:message:Contracts:StockReservedEvent',
      kind: 'event',
      owner: 'stock',
      sentBy: ['stock'],
      takenBy: ['order', 'payment'],
      schema: { type: 'object', properties: { orderId: {} } },
      states: ['Suspend.reservingStock', 'Suspend.takingPayment']
    }
  )
  t.match(
    drawn.contracts.find(({ name }: { name: string }) => name === 'ReleaseStock'),
    { kind: 'command', sentBy: ['order'], takenBy: ['stock'], states: [] }
  )
})
