// What a person does to many instances: one, five, twenty, then the rest.
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { SagaJobs } from '../../packages/sagabox/src/saga/run/jobs.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { SagaHost } from '../../packages/sagabox/src/saga/run/host.ts'
import { shopTopology } from '../../src/shop.ts'
import type { Answer, Api } from '../support/api.ts'
import { GatedTransport } from '../support/gated-transport.ts'
import { startSystem, testLog } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(240_000)

/** Orders that wait for stock to release what was reserved, and stock does not hear of it. */
async function waiting(t: Test, count: number) {
  let gate!: GatedTransport
  const running = await startSystem(t, 'memory', {
    wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
  })
  const { api } = running
  await api.putProduct('keyboard', 1000)
  gate.hold('stock', 'ReleaseStock')
  const ids = await Promise.all(
    Array.from({ length: count }, () => api.placeOrder({ paymentMethod: 'pm_card_chargeDeclined' }))
  )
  for (const id of ids)
    await until(
      'it waits for the release',
      async () => (await api.get(`/sagas/${id}`)).state === 'Failed.releasingStock'
    )
  return { ...running, gate, ids }
}

function followed(api: Api, id: number, state = 'done'): Promise<Answer['body']> {
  let last: Answer['body']
  return until(
    `job ${id} is ${state}`,
    async () => {
      last = await api.get(`/sagas/order/jobs/${id}`)
      return last.state === state && last
    },
    { progress: () => JSON.stringify(last), tell: () => JSON.stringify(last) }
  )
}

async function begin(api: Api, body: object): Promise<Answer['body']> {
  const { status, body: job } = await api.call('POST', '/sagas/order/jobs', body)
  if (status !== 202) throw new Error(JSON.stringify(job))
  return job
}

t.test('a retry proves itself on one, then on five, before the rest', async (t) => {
  const { api, gate, ids } = await waiting(t, 30)
  const job = await begin(api, {
    action: 'retry',
    filter: { state: 'Failed' },
    reason: 'stock is back'
  })
  t.match(job, { action: 'retry', state: 'running', total: 30, step: '1', atLeast: false })
  await until(
    'one was sent',
    async () => (await api.get(`/sagas/order/jobs/${job.id}`)).underWay === 1
  )
  const { waiting: left, underWay } = await api.get(`/sagas/order/jobs/${job.id}`)
  t.same([left, underWay], [29, 1], 'the others wait for the first')

  gate.release('stock', 'ReleaseStock')
  const done = await followed(api, job.id)
  t.match(done, { moved: 30 - done.failed, underWay: 0, waiting: 0, step: 'rest' })
  const histories = await Promise.all(ids.map((id) => api.get(`/sagas/${id}`)))
  const retries = histories.flatMap(({ history }) =>
    history.filter(({ event }: { event: string }) => event === 'retry')
  )
  t.ok(retries.length >= 1 && retries.length <= 30, 'none twice')
  t.match(retries[0].note, /by hand.*: stock is back/)
  t.match((await api.get('/ops/order/audit')).items, [
    { action: 'saga:retry', target: `order saga job ${job.id}`, reason: 'stock is back' }
  ])
})

t.test('all that fit are cancelled, and what cannot be ends it', async (t) => {
  let gate!: GatedTransport
  const { api, system } = await startSystem(t, 'memory', {
    wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
  })
  await api.putProduct('keyboard', 1000)
  gate.hold('payment', 'StockReservedEvent')
  const ids = await Promise.all(Array.from({ length: 40 }, () => api.placeOrder()))
  for (const id of ids)
    await until('it is priced', async () => (await api.get(`/sagas/${id}`)).version === 2)
  const reason = 'the sale is off'
  const job = await begin(api, { action: 'cancel', filter: { state: 'Suspend' }, reason })
  const done = await followed(api, job.id)
  t.match(done, { total: 40, moved: 40, failed: 0, stoppedWhy: null, step: 'rest' })
  for (const id of ids) {
    const { history, context } = await api.get(`/sagas/${id}`)
    t.equal(context.failureReason, 'Cancelled')
    t.equal(history.filter(({ event }: { event: string }) => event === 'CancelOrder').length, 1)
  }
  t.match((await api.get('/sagas/order/jobs')).items, [{ id: job.id }])

  // Of version 9 there is no machine here.
  const again = await Promise.all(Array.from({ length: 3 }, () => api.placeOrder()))
  await system
    .service('order')
    .database.rows('update saga set machine_version = 9 where saga_id = any($1)', [again])
  const stopped = await begin(api, { action: 'cancel', filter: { ids: again }, reason })
  t.match(await followed(api, stopped.id, 'stopped'), {
    failed: 1,
    waiting: 2,
    stoppedWhy: '1 of the first 1 failed',
    failures: [{ error: /is on version 9 of its machine/ }]
  })
})

t.test('a job of a process that died is carried on by another, and never twice', async (t) => {
  const { api, system, ids, gate } = await waiting(t, 8)
  const { database, outbox } = system.service('order')
  gate.release('stock', 'ReleaseStock')
  for (const id of ids) await api.settled(id)
  gate.hold('payment', 'StockReservedEvent')
  const orders = await Promise.all(Array.from({ length: 30 }, () => api.placeOrder()))
  for (const id of orders)
    await until('it is priced', async () => (await api.get(`/sagas/${id}`)).version === 2)
  // Three processes look at it at once, over and over.
  const host = new SagaHost(orderSaga(30))
  const others = Array.from({ length: 3 }, () => new SagaJobs(host, database, outbox, testLog))
  for (const other of others) other.start()
  t.teardown(() => Promise.all(others.map((other) => other.stop())))
  const job = await begin(api, { action: 'cancel', filter: { ids: orders }, reason: 'x' })
  for (const other of others) other.wake()
  t.match(await followed(api, job.id), { moved: 30, failed: 0 })
  for (const id of orders) {
    const { history } = await api.get(`/sagas/${id}`)
    t.equal(history.filter(({ event }: { event: string }) => event === 'CancelOrder').length, 1)
  }
})

t.test('a job is stopped, one instance is cancelled, and what is asked wrongly', async (t) => {
  const { api, ids } = await waiting(t, 3)
  const job = await begin(api, { action: 'retry', filter: { ids }, reason: 'x' })
  t.match(await api.call('POST', `/sagas/order/jobs/${job.id}/stop`, { reason: 'enough' }), {
    status: 200,
    body: { state: 'stopped', stoppedWhy: 'enough' }
  })
  t.match(await api.call('POST', `/sagas/order/jobs/${job.id}/stop`, { reason: 'enough' }), {
    status: 409
  })
  t.match(await api.call('POST', `/sagas/${ids[0]}/cancel`, { reason: 'x' }), {
    status: 409,
    body: { detail: /CancelOrder/ }
  })
  t.match(await api.call('POST', `/sagas/${randomUUID()}/cancel`, { reason: 'x' }), { status: 404 })
  const wrong: [object, string][] = [
    [{ action: 'retry', reason: 'x', filter: {} }, 'filter'],
    [{ action: 'retry', reason: 'x', filter: { state: 'Nowhere' } }, 'filter.state'],
    [{ action: 'retry', reason: 'x', filter: { ids: ['x'] } }, 'filter.ids[0]'],
    [{ action: 'retry', reason: '', filter: { stuck: true } }, 'reason'],
    [{ action: 'drop', reason: 'x', filter: { stuck: true } }, 'action'],
    [
      { action: 'retry', reason: 'x', filter: { stuck: true }, stopAfterFailures: 0 },
      'stopAfterFailures'
    ]
  ]
  for (const [body, field] of wrong)
    t.match(
      await api.call('POST', '/sagas/order/jobs', body),
      { status: 400, body: { errors: [{ field }] } },
      field
    )
  t.match(await api.call('GET', '/sagas/order/jobs/999'), { status: 404 })
  t.match(await api.call('GET', '/sagas/order/jobs/x'), { status: 400 })
  t.match(await begin(api, { action: 'retry', filter: { stuck: true }, reason: 'x' }), { total: 0 })
})
