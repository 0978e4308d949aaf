import t, { type Test } from 'tap'
import { rowsRead } from '../support/rows-read.ts'
import { startSystem } from '../support/system.ts'

/** More than one statement looks through. */
const ENDED = 100_500
/** Inserted by one statement: it ends in time on a slow machine, too. */
const CHUNK = 20_100

t.test('what few orders have in common is found among many', async (t) => {
  const { api, system, databaseUrl } = await startSystem(t, 'memory', {
    services: ['order'],
    settings: { deadlineSeconds: 36_000 }
  })
  const { database } = system.service('order')
  const orderIds: string[] = []
  for (let index = 0; index < 5; index++) orderIds.push(await api.placeOrder())
  const [refundedFirst, refunded, stuck, settled, suspended] = orderIds as [
    string,
    string,
    string,
    string,
    string
  ]
  const fail = async (
    orderId: string,
    state: string,
    nextTimerAt: string | null,
    stuckSince: string | null = null
  ) => {
    await database.rows(
      `
        update saga set state = $2, next_timer_at = $3::timestamptz, stuck_since = $4::timestamptz
          where saga_id = $1`,
      [orderId, state, nextTimerAt, stuckSince]
    )
    await database.rows(`update orders set status = 'Failed' where order_id = $1`, [orderId])
  }
  await fail(refundedFirst, 'Failed.refunding', '2999-01-01T00:00:00Z')
  await fail(refunded, 'Failed.refunding', '2999-01-01T00:00:00Z')
  await fail(stuck, 'Failed.refunding', null, '2026-01-01T00:00:00Z')
  await fail(settled, 'Failed.settled', null)
  // Placed later, and completed.
  const id = `('7fffffff-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid`
  for (let first = 1; first <= ENDED; first += CHUNK) {
    const numbers = `generate_series(${first}, ${first + CHUNK - 1}) as i where i <= ${ENDED}`
    await database.rows(
      `
        insert into orders (order_id, customer_id, status, payment_method) select ${id}, 'ada',
          'Completed', 'pm_card_visa' from ${numbers}`
    )
    await database.rows(
      `
        insert into saga (saga, saga_id, state, value, context, version, timers) select 'order',
          ${id}, 'Completed', '"Completed"', '{}', 3, '[]' from ${numbers}`
    )
  }
  const read = rowsRead(t, databaseUrl, /from (orders|saga)\s/)

  const waiting = async (t: Test) => {
    for (const [list, found] of [
      ['/orders?status=Suspend', [suspended]],
      ['/sagas?state=Suspend', [suspended]],
      ['/sagas?state=Failed.refunding', [stuck, refunded, refundedFirst]],
      ['/sagas?stuck=true', [stuck]]
    ] as const) {
      const { answer, rows } = await read(() => api.get(list))
      t.same(idsOf(answer), found, list)
      t.equal(answer.nextCursor, null)
      t.ok(rows < 50, `${list}: ${rows} rows were read`)
    }
    const first = await api.get('/sagas?state=Failed.refunding&limit=2')
    t.same(idsOf(first), [stuck, refunded])
    const rest = await api.get(`/sagas?state=Failed.refunding&limit=2&cursor=${first.nextCursor}`)
    t.same([idsOf(rest), rest.nextCursor], [[refundedFirst], null])
  }
  await t.test('what waits is all that is read', waiting)
  await database.rows('analyze')
  await t.test('with statistics, too', waiting)

  await t.test('what has ended is looked for in so many at a time', async (t) => {
    for (const [list, found] of [
      ['/orders?status=Failed', [settled, stuck, refunded, refundedFirst]],
      ['/sagas?state=Failed', [settled, stuck, refunded, refundedFirst]],
      ['/sagas?state=Failed.settled', [settled]]
    ] as const) {
      const { answer, rows } = await read(() => api.get(list))
      t.same(answer.items, [], list)
      t.ok(rows <= 200_050, `${list}: ${rows} rows were read, to look and to find the end`)
      const rest = await api.get(`${list}&cursor=${answer.nextCursor}`)
      t.same([idsOf(rest), rest.nextCursor], [found, null], `${list}, read on`)
    }
    t.equal((await api.get('/orders?status=Completed')).items.length, 20)
  })

  await t.test('all that wait are counted, of the ended the newest', async (t) => {
    const { answer, rows } = await read(() => api.get('/sagas/summary'))
    t.match(answer, {
      Suspend: 1,
      Failed: 3,
      Completed: 100_000,
      stuck: 1,
      byState: { 'Suspend.reservingStock': 1, 'Failed.refunding': 3, Completed: 100_000 }
    })
    t.ok(Date.parse(answer.endedSince) <= Date.now())
    t.ok(rows <= 200_050, `${rows} rows were read`)
  })

  await t.test('an export finds them', async (t) => {
    const exported = async (query: string) =>
      (await api.call('GET', `/sagas/export?${query}`)).text
        .split('\n')
        .filter(Boolean)
        .map((line): string => JSON.parse(line).sagaId)
    t.same(await exported('state=Failed'), [settled, stuck, refunded, refundedFirst])
    t.same(await exported('state=Failed&limit=1'), [settled])
    const newest = await exported('state=Completed&limit=10150')
    t.equal(new Set(newest).size, 10_150, 'over more than one window, each once')
    t.equal(newest.at(-1), `7fffffff-0000-7000-8000-${String(ENDED - 10_149).padStart(12, '0')}`)
  })
})

function idsOf({
  items
}: {
  items: { orderId?: string; sagaId?: string }[]
}): (string | undefined)[] {
  return items.map(({ orderId, sagaId }) => orderId ?? sagaId)
}
