// What an operator and a caller can do with services: list and give up what is sent later, pause an
// endpoint, ask across processes, read the log.
import { randomUUID } from 'node:crypto'
import { contracts, defineSaga, defineService, handle, ignore, startSagabox, Type } from 'sagabox'
import t, { type Test } from 'tap'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'
import { advance } from '../../src/testing/advance.ts'

const Id = Type.String({ format: 'uuid' })
const kitchen = contracts('kitchen', { correlateBy: 'dishId' })
const hall = contracts('hall', { correlateBy: 'dishId' })
const Ordered = hall.event('Ordered', { dishId: Id })
const Served = hall.event('Served', { dishId: Id })
const Cook = kitchen.command('Cook', { dishId: Id })
const Dish = kitchen.response('Dish', { name: Type.String() })
const GetDish = kitchen.request('GetDish', { number: Type.Integer() }, Dish)

const cooked: string[] = []
const cook = defineService('kitchen', {
  handlers: [
    handle(Cook, ({ dishId }) => void cooked.push(dishId)),
    handle(GetDish, ({ number }) => Dish({ name: `dish ${number}` }))
  ]
})
const meal = defineSaga('meal', { startedBy: Ordered, handles: [Served] }, ({ send }) => ({
  initial: 'hungry',
  states: {
    hungry: {
      every: { '1d': send(Cook, ({ dishId }) => ({ dishId })) },
      on: { Served: 'full' }
    },
    full: { tags: 'end', on: { '*': ignore('full') } }
  }
}))
const guests = defineService('hall', { sagas: [meal], sends: [Cook] })

interface Call {
  status: number
  body: any // oxlint-disable-line typescript/no-explicit-any -- JSON of any route
}

async function call(url: string, body?: object): Promise<Call> {
  const answer = await fetch(url, {
    ...(body && {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body)
    })
  })
  return { status: answer.status, body: await answer.json() }
}

async function open(t: Test, broker: boolean) {
  const log = keptLog()
  const app = await startSagabox({
    services: [cook, guests],
    databaseUrl: await (await postgresForTests()).createDatabase(),
    ...(broker && { rabbitmqUrl: await (await rabbitmqForTests()).createVhost() }),
    signals: false,
    log
  })
  t.teardown(() => app.stop())
  return { app, log }
}

for (const broker of [false, true]) {
  const where = broker ? 'over RabbitMQ' : 'in memory'

  t.test(`what is sent later is listed, and given up with a reason, ${where}`, async (t) => {
    const { app } = await open(t, broker)
    const outbox = `${app.url}/ops/kitchen/outbox`
    const dishes = [randomUUID(), randomUUID(), randomUUID()]
    for (const [index, dishId] of dishes.entries())
      await app.publish(Cook({ dishId }).after(`${index + 1}h`, { token: `dish ${index}` }))
    t.match(await call(outbox), { body: { pending: 0, postponed: 0, scheduled: 3 } })
    const first = await call(`${outbox}/scheduled?limit=2`)
    t.match(first.body.items, [
      { token: 'dish 0', destination: 'kitchen', payload: new RegExp(dishes[0]!) },
      { token: 'dish 1', destination: 'kitchen', payload: new RegExp(dishes[1]!) }
    ])
    t.match(await call(`${outbox}/scheduled?limit=2&cursor=${first.body.nextCursor}`), {
      body: { items: [{ token: 'dish 2' }], nextCursor: null }
    })
    t.match((await call(`${outbox}/scheduled?token=dish%201`)).body.items, [{ token: 'dish 1' }])
    for (const query of ['cursor=eA', 'token=', 'limit=0'])
      t.equal((await call(`${outbox}/scheduled?${query}`)).status, 400, query)
    const { id, messageId } = first.body.items[0]
    const discard = `${outbox}/scheduled/${id}/discard`
    t.equal((await call(discard, {})).status, 400)
    t.match(await call(discard, { reason: 'not hungry' }), { status: 200, body: { id, messageId } })
    t.equal((await call(discard, { reason: 'again' })).status, 404)
    t.match(await call(`${outbox}/discarded/${id}`), {
      body: { putOff: 'scheduled', discardReason: 'not hungry', payload: new RegExp(dishes[0]!) }
    })
    t.match(await call(outbox), { body: { scheduled: 2 } })
    await until(
      'what waits keeps nobody from being ready',
      async () => (await call(`${app.url}/health/ready`)).status === 200
    )
  })

  t.test(`an endpoint is paused and resumed, ${where}`, async (t) => {
    const { app } = await open(t, broker)
    const endpoint = `${app.url}/ops/kitchen/endpoint`
    t.match(await call(endpoint), { body: { status: 'running', since: null, reason: null } })
    t.equal((await call(`${endpoint}/pause`, {})).status, 400)
    const reason = 'the oven is cold'
    t.match(await call(`${endpoint}/pause`, { reason }), { body: { status: 'paused', reason } })
    const dishId = randomUUID()
    await app.publish(Cook({ dishId }))
    await t.rejects(app.request(GetDish({ number: 1 }), { timeout: '500ms' }), {
      code: 'REQUEST_TIMED_OUT'
    })
    t.notOk(cooked.includes(dishId))
    t.match(await call(`${app.url}/health/ready`), {
      status: 200,
      body: { services: { kitchen: { broker: 'ok', paused: /^since 20.*Z: the oven is cold$/ } } }
    })
    t.match(await call(`${endpoint}/resume`, {}), { body: { status: 'running' } })
    await until('it is cooked', async () => cooked.includes(dishId))
    t.same(await app.request(GetDish({ number: 2 })), { name: 'dish 2' })
  })

  t.test(`a saga reminds, also after days of standstill once, ${where}`, async (t) => {
    const { app } = await open(t, broker)
    const dishId = randomUUID()
    await app.publish(Ordered({ dishId }))
    const { database } = app.service('hall')
    const times = () => cooked.filter((each) => each === dishId).length
    await until('it is there', async () => (await database.rows('select 1 from saga')).length > 0)
    await advance({ database, name: 'meal' }, '1d')
    await until('it is cooked', async () => times() === 1)
    await advance({ database, name: 'meal' }, '5d')
    await until('it is cooked again', async () => times() === 2)
    const [row] = await database.rows(
      `select version, stuck_since, next_timer_at > now() + interval '23 hours' as later from saga`
    )
    t.match(row, { version: 3, stuck_since: null, later: true })
    await app.publish(Served({ dishId }))
    await app.ended(meal, dishId)
    t.equal(times(), 2)
  })
}

t.test('a process asks another, and goes on when that one is away', async (t) => {
  const rabbitmqUrl = await (await rabbitmqForTests()).createVhost()
  const databaseUrl = await (await postgresForTests()).createDatabase()
  const common = { databaseUrl, rabbitmqUrl, system: [cook, guests], signals: false }
  const log = keptLog()
  const asker = await startSagabox({ ...common, services: [guests], log })
  t.teardown(() => asker.stop())
  await t.rejects(asker.request(GetDish({ number: 1 }), { timeout: '1s' }), {
    code: 'REQUEST_TIMED_OUT',
    message: /within 1 s: .*kitchen/
  })
  const first = await startSagabox({ ...common, services: [cook], log })
  t.same(await asker.request(GetDish({ number: 2 })), { name: 'dish 2' })
  await first.stop()
  const waiting = asker.request(GetDish({ number: 3 }), { timeout: '60s' })
  const second = await startSagabox({ ...common, services: [cook], log })
  t.teardown(() => second.stop())
  t.same(await waiting, { name: 'dish 3' }, 'it waited in the queue')
})

t.test('a logger of four levels will do, and gets whatever is said', async (t) => {
  const { app, log } = await open(t, false)
  await app.service('kitchen').pause('tea time')
  t.ok(
    log.lines.some(
      ({ message, fields }) => /is paused/.test(message) && fields.reason === 'tea time'
    )
  )
  app.service('kitchen').resume()
  const { status } = await call(`${app.url}/sagas/${randomUUID()}`)
  t.equal(status, 404)
})

t.test('a service that limits itself to nothing is refused', async (t) => {
  for (const most of [0, -1, 1.5, 70_000, Number.NaN])
    t.throws(() => defineService('x', { concurrency: { messages: most } }), {
      code: 'INVALID_SERVICE',
      message: /concurrency.messages is .*; expected a whole number from 1 to 65535/
    })
})
