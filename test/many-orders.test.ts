import t from 'tap'
import { startSystem } from './support/system.ts'

/** More than one statement looks through. */
const ENDED = 100_500

t.test('what few orders have in common is found among many', async (t) => {
  const { api, system } = await startSystem(t, 'memory', { services: ['order'] })
  const { dataSource } = system.service('order')
  const [refunding, settled, suspended] = [await api.placeOrder(), await api.placeOrder(), await api.placeOrder()]
  const fail = async (orderId: string, state: string, timers: string) => {
    await dataSource.query(`update saga set state = $2, next_timer_at = $3::timestamptz where saga_id = $1`, [orderId, state, timers === '' ? null : timers])
    await dataSource.query(`update orders set status = 'Failed' where order_id = $1`, [orderId])
  }
  await fail(refunding, 'Failed.refunding', '2999-01-01T00:00:00Z')
  await fail(settled, 'Failed.settled', '')
  // Placed later, and completed.
  const id = `('7fffffff-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid`
  await dataSource.query(`insert into orders (order_id, customer_id, status, payment_method) select ${id}, 'ada', 'Completed', 'pm_card_visa' from generate_series(1, ${ENDED}) as i`)
  await dataSource.query(`insert into saga (saga, saga_id, state, value, context, version, timers) select 'order', ${id}, 'Completed', '"Completed"', '{}', 3, '[]' from generate_series(1, ${ENDED}) as i`)

  t.match(await api.get('/orders?status=Suspend'), { items: [{ orderId: suspended }], nextCursor: null })
  t.match(await api.get('/sagas?state=Suspend'), { items: [{ sagaId: suspended }], nextCursor: null })
  t.match(await api.get('/sagas?state=Failed.refunding'), { items: [{ sagaId: refunding }], nextCursor: null })

  await t.test('what has ended is looked for in so many at a time', async (t) => {
    for (const [list, found] of [
      ['/orders?status=Failed', [settled, refunding]],
      ['/sagas?state=Failed', [settled, refunding]],
      ['/sagas?state=Failed.settled', [settled]]
    ] as const) {
      const first = await api.get(list)
      t.same(first.items, [], list)
      const rest = await api.get(`${list}&cursor=${first.nextCursor}`)
      t.same(rest.items.map(({ orderId, sagaId }: { orderId?: string; sagaId?: string }) => orderId ?? sagaId), found, `${list}, read on`)
      t.equal(rest.nextCursor, null)
    }
    t.equal((await api.get('/orders?status=Completed')).items.length, 20)
  })

  await t.test('all that wait are counted, of the ended the newest', async (t) => {
    const summary = await api.get('/sagas/summary')
    t.match(summary, { Suspend: 1, Failed: 1, Completed: 100_000, stuck: 0, byState: { 'Suspend.reservingStock': 1, 'Failed.refunding': 1, Completed: 100_000 } })
    t.ok(Date.parse(summary.endedSince) <= Date.now())
  })

  await t.test('an export finds them', async (t) => {
    const exported = async (query: string) => (await api.call('GET', `/sagas/export?${query}`)).text.split('\n').filter(Boolean).map((line): string => JSON.parse(line).sagaId)
    t.same(await exported('state=Failed'), [settled, refunding])
    t.same(await exported('state=Failed&limit=1'), [settled])
    const newest = await exported('state=Completed&limit=10150')
    t.equal(new Set(newest).size, 10_150, 'over more than one window, each once')
    t.equal(newest.at(-1), `7fffffff-0000-7000-8000-${String(ENDED - 10_149).padStart(12, '0')}`)
  })
})
