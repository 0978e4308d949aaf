import { idOfKey } from '../../packages/sagabox/src/messaging/message/correlation.ts'
import t, { type Test } from 'tap'
import type { Answer } from '../support/api.ts'
import { rowsRead } from '../support/rows-read.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

/** More than one statement looks through. */
const ENDED = 50_500
const WINDOW = 50_000

t.setTimeout(120_000)

t.test('a few letters are found among many', async (t) => {
  const { api, system, databaseUrl } = await startSystem(t, 'memory', { services: ['stock'] })
  const { database } = system.service('stock')
  const path = '/ops/stock/dead-letters'
  const insert = (numbers: string, more: object = {}) => {
    const fields = {
      status: `'handled'`,
      type: `'OrderCreatedEvent'`,
      reason: `'no such berth'`,
      correlation: 'null',
      ...more
    }
    return database.rows(`
      insert into dead_letter (endpoint, message_id, message_type, correlation_id, payload,
        exception, reason, fingerprint, status)
      select 'stock', 'm' || i, ${fields.type}, ${fields.correlation}, ('x' || i)::bytea, 'Error',
        ${fields.reason}, sha256(('x' || i)::bytea), ${fields.status} from ${numbers} as i`)
  }
  const idsOf = ({ items }: Answer['body']): number[] => items.map(({ id }: { id: number }) => id)
  await insert('generate_series(1, 3)', {
    status: `'waiting'`,
    type: `'ReleaseStock'`,
    reason: `'a Needle'`,
    correlation: `'${idOfKey('c')}'`
  })
  for (let first = 4; first <= ENDED + 3; first += 10_100)
    await insert(`generate_series(${first}, ${first + 10_099})`)
  const read = rowsRead(t, databaseUrl, /from dead_letter/)

  const found = async (t: Test) => {
    for (const query of [
      'status=waiting',
      'status=waiting&reason=needle',
      'messageId=m2',
      'correlationId=c',
      'type=ReleaseStock',
      'type=ReleaseStock&exception=Error',
      'status=waiting&type=ReleaseStock'
    ]) {
      const { answer, rows } = await read(() => api.get(`${path}?${query}`))
      t.same(idsOf(answer), query === 'messageId=m2' ? [2] : [3, 2, 1], query)
      t.equal(answer.nextCursor, null)
      t.ok(rows < 50, `${query}: ${rows} rows were read`)
    }
    const groups = await read(() => api.get(`${path}/groups?status=waiting`))
    t.match(groups.answer, { total: 3, atLeast: false, groups: [{ count: 3 }] })
    t.ok(groups.rows < 50, `${groups.rows} rows were read`)
  }
  await t.test('what an index finds is all that is read', found)
  await database.rows('analyze')
  await t.test('with statistics, too', found)

  await t.test('what no index finds is looked for in so many at a time', async (t) => {
    for (const query of [
      'reason=needle',
      'reason=needle&type=OrderCreatedEvent',
      'kind=error&reason=needle'
    ]) {
      const { answer, rows } = await read(() => api.get(`${path}?${query}`))
      t.same(answer.items, [], query)
      t.ok(rows <= 2 * WINDOW + 50, `${query}: ${rows} rows were read, to look and to find the end`)
      const rest = await api.get(`${path}?${query}&cursor=${answer.nextCursor}`)
      t.same(
        [idsOf(rest), rest.nextCursor],
        [query.includes('type') ? [] : [3, 2, 1], null],
        `${query}, read on`
      )
    }
    const { answer, rows } = await read(() => api.get(`${path}?limit=5`))
    t.equal(answer.items.length, 5)
    t.ok(rows < 50, `the first page: ${rows}`)
    const groups = await read(() => api.get(`${path}/groups`))
    t.match(groups.answer, { total: WINDOW, atLeast: true })
    t.ok(groups.rows <= 2 * WINDOW + 50, `${groups.rows} rows were read`)
  })

  await t.test('a group retry looks at so many at a time, and finds all', async (t) => {
    await database.rows(`update dead_letter set status = 'waiting', endpoint = 'stock'`)
    await insert('generate_series(1000001, 1000002)', { status: `'waiting'`, reason: `'a needle'` })
    const { answer, rows } = await read(() =>
      api.call('POST', `${path}/retry`, { reason: 'NEEDLE', why: 'mended' })
    )
    t.match(answer, { status: 202, body: { left: 3, atLeast: true } })
    t.ok(rows <= 6 * WINDOW, `${rows} rows were read`)
    const ended = (location: string) =>
      until('it has ended', async () => {
        const retry = await api.get(location)
        return retry.state !== 'running' && retry
      })
    t.match(
      await ended(answer.headers.get('location')!),
      { state: 'stopped', sent: 3, failedAgain: 3, left: 2, atLeast: false },
      'of the first window'
    )
    const rest = await api.call('POST', `${path}/retry`, { reason: 'NEEDLE', why: 'mended' })
    t.match(rest.body, { left: 0, atLeast: true }, 'none there any more')
    t.match(
      await ended(rest.headers.get('location')!),
      { state: 'done', sent: 2, failedAgain: 2, left: 0, atLeast: false },
      'of the second'
    )
    const listed = await read(() => api.get(`${path}/retries`))
    t.ok(listed.rows < 50, `${listed.rows} rows were read for what has ended`)
  })
})
