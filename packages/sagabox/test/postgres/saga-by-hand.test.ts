import { randomUUID } from 'node:crypto'
import pino from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { assign, createMachine, type AnyStateMachine } from 'xstate'
import { Mask } from '../../src/messaging/message/sensitive.ts'
import { buildApp } from '../../src/http/app.ts'
import { Database } from '../../src/messaging/postgres/database.ts'
import { command, event, message, type Message } from '../../src/messaging/message/message.ts'
import { Outbox } from '../../src/messaging/outbox/outbox.ts'
import { defer, ignore, sagaActions, send, type SagaChange } from '../../src/saga/define.ts'
import { defineSaga } from '../../src/saga/steps/define-saga.ts'
import { SagaHost } from '../../src/saga/run/host.ts'
import { SagaInspector } from '../../src/saga/inspect/inspect.ts'
import { sagaRoutes } from '../../src/http/sagas.ts'
import { TimerLoop } from '../../src/saga/run/timers.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { testLog } from '../../../../test/support/system.ts'
import { migrationsOf } from '../../../../test/support/migrations.ts'

const Id = Type.Object({ id: Type.String({ format: 'uuid' }) })
const Nested = Type.Object({ trip: Id, amount: Type.Integer({ minimum: 1 }) })
const Begun = event('BegunEvent', { owner: 'a', correlateBy: 'id', schema: Id })
const Booked = event('BookedEvent', { owner: 'b', correlateBy: 'trip.id', schema: Nested })
const Left = event('LeftEvent', { owner: 'b', correlateBy: 'id', schema: Id })
const Cancel = command('CancelTrip', { owner: 'b', correlateBy: 'id', schema: Id })

interface Trip {
  id: string
  amount: number
  /** What the machine does with the next event or timer. */
  does?: unknown
}

/** What a machine throws. */
const THROWN: Record<string, () => unknown> = {
  error: () => new Error('no price'),
  text: () => 'just text',
  nothing: () => undefined,
  bare: () => Object.create(null) as unknown,
  hostile: () => Object.assign(new Error('x'), { message: { code: 1 }, stack: 5 }),
  nul: () => new Error('a \0 and a \uD800'),
  long: () => new Error('x'.repeat(500_000))
}

function act(context: Trip): Partial<Trip> {
  if (typeof context.does === 'string' && context.does in THROWN) throw THROWN[context.does]!()
  if (context.does === 'Date') return { does: new Date(0) }
  return {}
}

const acts = assign(({ context }: { context: Trip }) => act(context))
const cancel = send(Cancel, ({ id }: Trip) => ({ id }))

function tripMachine(): AnyStateMachine {
  return createMachine({
    id: 'trip',
    context: ({ input }: { input: { id: string } }) => ({ id: input.id, amount: 0 }),
    initial: 'Open',
    states: {
      Open: {
        initial: 'Booking',
        after: { 3_600_000: { target: 'Failed', actions: acts } },
        states: {
          Booking: {
            on: {
              BookedEvent: {
                target: 'Leaving',
                actions: [acts, assign(({ event: { amount } }) => ({ amount }))]
              },
              LeftEvent: defer(),
              Stop: ignore('it is being booked')
            }
          },
          Leaving: {
            on: {
              LeftEvent: '#trip.Done',
              BookedEvent: ignore('booked before'),
              Stop: '#trip.Failed'
            },
            after: { 3_600_000: { target: 'Leaving', reenter: true } }
          }
        }
      },
      Failed: { tags: 'end', entry: cancel, on: { '*': ignore('it has failed') } },
      Done: { tags: 'end', on: { '*': ignore('it is done') } }
    }
  } as never).provide({ actions: sagaActions } as never) as AnyStateMachine
}

t.test('an event that may never come is supplied by hand', async (t) => {
  const { start, post, get, sentMessages, inspector, handle } = await open(t)
  const id = await start()
  const url = `/sagas/${id}/answer`
  const reason = 'the carrier told us on the phone'

  const wrong: [object, number, RegExp | object][] = [
    [{ event: 'BookedEvent', body: { amount: 5 } }, 400, /reason/],
    [{ event: 'BookedEvent', body: { amount: 5 }, reason: '  ' }, 400, /reason/],
    [{ event: 'BookedEvent', body: { amount: 5 }, reason: 'a\0' }, 400, /reason/],
    [
      { event: 'BookedEvent', reason },
      400,
      { errors: [{ field: 'body.amount', expected: 'is required' }] }
    ],
    [
      { event: 'BookedEvent', body: { amount: 'x' }, reason },
      400,
      { errors: [{ field: 'body.amount', expected: 'must be integer' }] }
    ],
    [
      { event: 'BookedEvent', body: { amount: 5, trip: 7 }, reason },
      400,
      { errors: [{ field: 'body.trip' }] }
    ],
    [
      { event: 'BookedEvent', body: { amount: 5, trip: { id: randomUUID() } }, reason },
      400,
      { errors: [{ field: 'body.trip.id', expected: `must be ${id}, or left out` }] }
    ],
    [
      { event: 'BookedEvent', body: { amount: 5, more: 'a\0' }, reason },
      400,
      { errors: [{ field: 'body' }] }
    ],
    [
      { event: 'NoEvent', reason },
      400,
      {
        errors: [
          { field: 'event', expected: 'must be one of BookedEvent, LeftEvent, Stop, after 3600000' }
        ]
      }
    ],
    [
      { event: 'Stop', reason },
      409,
      /is in Open\.Booking at version 1 and does not take Stop \(it is being booked\); events possible now: BookedEvent, after 3600000/
    ],
    [
      { event: 'LeftEvent', reason },
      409,
      /does not take LeftEvent \(it is kept for another state\)/
    ],
    [
      { event: 'BookedEvent', body: { amount: 5 }, reason, version: 2 },
      409,
      /has moved: it is at version 1, in Open\.Booking, and not at version 2/
    ]
  ]
  for (const [body, status, expected] of wrong) {
    const answer = await post(url, body)
    t.equal(answer.status, status, JSON.stringify(body))
    t.match(expected instanceof RegExp ? answer.body.detail : answer.body, expected)
  }
  t.equal((await post(`/sagas/${randomUUID()}/answer`, { event: 'Stop', reason })).status, 404)
  t.match(await get(id), { state: 'Open.Booking', version: 1 }, 'nothing happened until now')

  t.match((await get(id)).accepts, ['BookedEvent', 'after 3600000'], 'what can be answered')
  const booked = await post(url, { event: 'BookedEvent', body: { amount: 5 }, reason, version: 1 })
  t.match(booked, {
    status: 200,
    body: { sagaId: id, state: 'Open.Leaving', version: 2, sent: [] }
  })
  const again = await post(url, { event: 'BookedEvent', body: { amount: 5 }, reason })
  t.match(
    again,
    {
      status: 409,
      body: {
        detail: /is in Open\.Leaving at version 2 .*possible now: LeftEvent, Stop, after 3600000/
      }
    },
    'a second one is told what the first did'
  )
  await handle([message(Booked, { trip: { id }, amount: 9 })])
  t.match(await get(id), { context: { amount: 5 } }, 'the event may come all the same')

  const stopped = await post(url, { event: 'Stop', reason: 'nobody wants it' })
  t.match(stopped, { status: 200, body: { state: 'Failed', sent: [{ type: 'CancelTrip' }] } })
  t.same(
    await sentMessages(),
    [stopped.body.sent[0].messageId],
    'in one transaction with what it sends'
  )
  t.match((await get(id)).history, [
    {},
    { event: 'BookedEvent', note: `by hand: ${reason}`, messageId: null },
    { note: 'ignored: booked before' },
    { event: 'Stop', note: 'by hand: nobody wants it' }
  ])
  t.match(await inspector.replay(id), { consistent: true, steps: 4 })
})

t.test('a timer is fired by hand, and so is one that the row has lost', async (t) => {
  const { start, post, get, query, inspector, booked } = await open(t)
  const [id, lost, two] = [await start(), await start(), await start()]
  const reason = 'it has waited long enough'
  t.match(await post(`/sagas/${id}/answer`, { event: 'after 3600000', reason }), {
    status: 200,
    body: { state: 'Failed', sent: [{ type: 'CancelTrip' }] }
  })
  t.match(await get(id), {
    timers: [],
    history: [{}, { event: 'after 3600000', note: `by hand: ${reason}` }]
  })

  await query(`update saga set timers = '[]', next_timer_at = null where saga_id = $1`, [lost])
  t.match(await get(lost), { timers: [], accepts: ['BookedEvent', 'after 3600000'] })
  t.match(await post(`/sagas/${lost}/answer`, { event: 'after 3600000', reason }), {
    status: 200,
    body: { state: 'Failed' }
  })

  await booked(two)
  const ambiguous = await post(`/sagas/${two}/answer`, { event: 'after 3600000', reason })
  const names = ['xstate.after.3600000.trip.Open', 'xstate.after.3600000.trip.Open.Leaving']
  t.match(ambiguous, {
    status: 400,
    body: { errors: [{ expected: `must be one of ${names.join(', ')}` }] }
  })
  t.same(
    (await get(two)).timers.map((timer: { id: string }) => timer.id),
    names
  )
  t.match(await post(`/sagas/${two}/answer`, { event: names[1], reason }), {
    status: 200,
    body: { state: 'Open.Leaving' }
  })
  t.match((await get(two)).timers, [{ id: names[0] }, { id: names[1] }], 'it runs anew')
  for (const each of [id, lost, two]) t.match(await inspector.replay(each), { consistent: true })
})

t.test(
  'an instance whose machine fails on every event, and one that no machine can move, are brought elsewhere',
  async (t) => {
    const { start, post, get, query, projected, inspector, sentMessages } = await open(t)
    const [failing, stranded, unknown] = [await start(), await start(), await start()]
    const reason = 'settled with the customer'
    for (const does of Object.keys(THROWN)) {
      await query(
        `
          update saga set context = context || jsonb_build_object('does', $2::text)
            where saga_id = $1`,
        [failing, does]
      )
      const answer = await post(`/sagas/${failing}/answer`, {
        event: 'BookedEvent',
        body: { amount: 5 },
        reason
      })
      t.match(
        answer,
        {
          status: 409,
          body: {
            detail:
              /^The machine of saga .* fails in Open\.Booking: .*\/migrate brings it to another state$/s
          }
        },
        does
      )
    }
    await query(`update saga set context = context || '{"does": "Date"}' where saga_id = $1`, [
      failing
    ])
    t.match(
      await post(`/sagas/${failing}/answer`, { event: 'BookedEvent', body: { amount: 5 }, reason }),
      { status: 409, body: { detail: /where context\.does is a Date/ } }
    )

    const url = `/sagas/${failing}/migrate`
    t.match(await post(url, { state: 'Failed', reason }), {
      status: 400,
      body: { detail: /version is required/ }
    })
    t.match(await post(url, { state: 'Open', reason, version: 1 }), {
      status: 400,
      body: {
        errors: [
          { field: 'state', expected: 'must be one of Open.Booking, Open.Leaving, Failed, Done' }
        ]
      }
    })
    t.match(await post(url, { state: 'Done', reason, version: 3 }), {
      status: 409,
      body: { detail: /at version 1/ }
    })
    t.match(
      await post(url, {
        state: 'Open.Leaving',
        context: { does: null, amount: 7 },
        reason,
        version: 1
      }),
      { status: 200, body: { state: 'Open.Leaving', version: 2, sent: [] } }
    )
    const { context, timers, history } = await get(failing)
    t.match(
      { context, timers, step: history[1] },
      {
        context: { amount: 7, does: null },
        timers: [{}, {}],
        step: { event: 'migrate', note: `by hand: ${reason}` }
      }
    )
    t.match(await inspector.replay(failing), { consistent: true })

    await query(`update saga set machine_version = 7 where saga_id = $1`, [stranded])
    await query(`update saga set state = 'Gone', value = '"Gone"' where saga_id = $1`, [unknown])
    for (const id of [stranded, unknown]) {
      t.equal(
        (await post(`/sagas/${id}/answer`, { event: 'BookedEvent', body: { amount: 5 }, reason }))
          .status,
        503,
        'a copy with its machine may take it'
      )
      t.match(await post(`/sagas/${id}/migrate`, { state: 'Failed', reason, version: 1 }), {
        status: 200,
        body: { state: 'Failed' }
      })
      t.match(await get(id), { state: 'Failed', machineVersion: 1, timers: [], waitingFor: null })
      t.match(
        projected.at(-1),
        { sagaId: id, status: 'Failed' },
        'the tables of the service hear of it'
      )
    }
    t.same(await sentMessages(), [], 'nothing is sent')
    t.match(
      await post(`/sagas/${stranded}/migrate`, { state: 'Failed', reason, version: 1 }),
      { status: 409 },
      'once'
    )
  }
)

t.test('an event that was deferred shows since when, and is dropped by hand', async (t) => {
  const { start, post, get, handle, inspector, query, booked } = await open(t)
  const id = await start()
  const [first, second] = [message(Left, { id }), message(Left, { id })]
  await handle([first, second])
  const { deferred } = await get(id)
  t.match(deferred, [
    { event: 'LeftEvent', messageId: first.messageId, since: /^\d{4}-.*Z$/ },
    { messageId: second.messageId }
  ])
  const url = `/sagas/${id}/drop-deferred`
  const reason = 'it was another trip'
  t.match(await post(url, { event: 'BookedEvent', reason }), {
    status: 409,
    body: { detail: /does not keep BookedEvent for another state; deferred events: LeftEvent/ }
  })
  t.match(await post(url, { event: 'LeftEvent', messageId: second.messageId, reason }), {
    status: 200,
    body: { version: 4 }
  })
  t.match(await get(id), {
    deferred: [{ messageId: first.messageId }],
    history: [{}, {}, {}, { event: 'drop deferred', note: `by hand: ${reason}` }]
  })
  t.match(await inspector.replay(id), { consistent: true, steps: 4 })
  await query('update saga set machine_version = 7')
  t.match(await post(url, { event: 'LeftEvent', reason }), { status: 200 }, 'no machine is needed')
  await query('update saga set machine_version = 1')
  t.match(await post(url, { event: 'LeftEvent', reason }), {
    status: 409,
    body: { detail: /deferred events: none/ }
  })
  await booked(id)
  t.match(await get(id), { state: 'Open.Leaving' }, 'what was dropped does not come again')

  const full = await start()
  await query(
    `
      update saga set deferred = (select jsonb_agg(jsonb_build_object('event',
        jsonb_build_object('type', 'LeftEvent'), 'messageId', null, 'headers', '{}'::jsonb))
        from generate_series(1, 1000)) where saga_id = $1`,
    [full]
  )
  await t.rejects(handle([message(Left, { id: full })]), {
    name: 'NotRetryable',
    message: /Open\.Booking has deferred 1000 events, and keeps no more/
  })
})

t.test('what one instance’s timer cannot do holds up no other, whatever it throws', async (t) => {
  const { start, loop, query, lines, refuse, other } = await open(t)
  const due = () =>
    query(
      `
        update saga set next_timer_at = now(), timers = jsonb_set(timers, '{0,dueAt}',
          to_jsonb(now()::text)) where next_timer_at is not null`
    )
  const failing = new Map<string, string>()
  for (const does of [...Object.keys(THROWN), 'Date']) {
    const id = await start()
    failing.set(id, does)
    await query(
      `
        update saga set context = context || jsonb_build_object('does', $2::text) where saga_id = $1`,
      [id, does]
    )
  }
  const lost = await start()
  const broken = await start()
  const fine = await start()
  await due()
  await query(`update saga set timers = '[]' where saga_id = $1`, [lost])
  await query(
    `update saga set timers = jsonb_set(timers, '{0,dueAt}', '"soon"') where saga_id = $1`,
    [broken]
  )
  await loop.runOnce()
  const rows = new Map(
    (
      await query(
        'select saga_id, state, last_error, stuck_since, next_timer_at > now() as later from saga'
      )
    ).map((row) => [row.saga_id, row])
  )
  t.match(rows.get(fine), { state: 'Failed', last_error: null })
  for (const [id, does] of failing)
    t.match(
      rows.get(id),
      { state: 'Open.Booking', stuck_since: Date, later: true, last_error: { message: String } },
      does
    )
  const said = [...failing].map(([id, does]) => [does, rows.get(id)!.last_error.message] as const)
  t.match(Object.fromEntries(said), {
    error: 'no price',
    text: 'just text',
    nul: 'a \uFFFD and a \uFFFD',
    long: /^x{2000}$/,
    Date: /context\.does is a Date/
  })
  t.match(rows.get(lost), {
    last_error: { message: /timers were changed from outside.*timers is empty/ }
  })
  t.match(rows.get(broken), {
    last_error: { message: /dueAt of xstate\.after.* is soon, not a time/ }
  })
  const logged = lines.length
  t.equal(logged, failing.size + 2, 'a line for each')

  await query(
    `
      update saga set next_timer_at = now(), stuck_since = now() - interval '5 minutes'
        where stuck_since is not null`
  )
  await loop.runOnce()
  t.equal(lines.length, logged, 'the same is not said again')
  const pauses = await query(
    `
      select extract(epoch from next_timer_at - now())::integer as pause from saga
        where stuck_since is not null`
  )
  t.ok(
    pauses.every(({ pause }) => pause > 290 && pause <= 300),
    'as long again as it has been stuck'
  )

  // The work of one fails as it is stored: by a constraint of the service's own, or because
  // somebody holds its row.
  const [refused, locked, next] = [await start(), await start(), await start()]
  await query('update saga set next_timer_at = null where stuck_since is not null')
  await due()
  refuse.add(refused)
  const release = await other(locked)
  await loop.runOnce()
  const after = new Map(
    (await query('select saga_id, state, last_error from saga')).map((row) => [row.saga_id, row])
  )
  t.match(after.get(next), { state: 'Failed' })
  t.match(after.get(refused), { state: 'Open.Booking', last_error: { message: /refused here/ } })
  t.match(after.get(locked), { state: 'Open.Booking', last_error: null }, 'whoever has it moves it')
  await release()
  await loop.runOnce()
  t.match(await query('select state from saga where saga_id = $1', [locked]), [{ state: 'Failed' }])
})

t.test(
  'a long history is read in windows, and replayed page by page while others go on',
  async (t) => {
    const { start, get, url, query, inspector, booked } = await open(t)
    const id = await start()
    await booked(id)
    await query(
      `insert into saga_history (saga, saga_id, sequence, event, body, from_state, to_state, sent, note)
    select 'trip', $1::uuid, n, 'BookedEvent', jsonb_build_object('trip', jsonb_build_object('id',
      $1::uuid), 'amount', 5), 'Open.Leaving', 'Open.Leaving', '[]', 'ignored: booked before'
    from generate_series(3, 30000) as n`,
      [id]
    )
    await query(`update saga set version = 30000 where saga_id = $1`, [id])
    const newest = await get(id)
    t.match(
      { ...newest, history: newest.history.length },
      { version: 30000, history: 1000, historyBefore: 29001 }
    )
    t.match([newest.history[0], newest.history.at(-1)], [{ sequence: 29001 }, { sequence: 30000 }])
    t.equal(
      newest.waitingFor.since,
      (await url(`/sagas/${id}?before=3`)).history[1].at,
      'since when does not depend on the window'
    )
    t.match(await url(`/sagas/${id}?before=11&limit=5`), {
      historyBefore: 6,
      history: [{ sequence: 6 }, {}, {}, {}, { sequence: 10 }]
    })
    t.match(await url(`/sagas/${id}?before=6`), { historyBefore: null })
    t.match(await url(`/sagas/${id}?limit=5000`), { status: 400 })

    let turns = 0
    let turning = setImmediate(function turn() {
      turns++
      turning = setImmediate(turn)
    })
    t.match(await inspector.replay(id), { consistent: true, steps: 30000 })
    clearImmediate(turning)
    t.ok(turns >= 60, `${turns} turns of the event loop: one for each page at least`)
  }
)

// oxlint-disable-next-line typescript/no-explicit-any -- columns are what the query names
type Row = Record<string, any>

async function open(t: Test) {
  const databaseUrl = await (await postgresForTests()).createDatabase()
  const migrations = ['messaging', 'saga'].map((part) => migrationsOf(part))
  const options = {
    url: databaseUrl,
    schema: 'trip_service',
    migrations,
    poolSize: 4,
    log: testLog
  }
  const database = new Database(options)
  await database.connect()
  t.teardown(() => database.close())
  const projected: SagaChange[] = []
  const refuse = new Set<string>()
  const saga = defineSaga({
    name: 'trip',
    startedBy: Begun,
    handles: [Booked, Left],
    asks: ['Stop'],
    machine: tripMachine(),
    async project(_, changes) {
      projected.push(...changes)
      if (changes.some(({ sagaId, state }) => refuse.has(sagaId) && state === 'Failed'))
        throw new Error('refused here')
    }
  })
  const host = new SagaHost(saga)
  const inspector = new SagaInspector(database, saga)
  const outbox = new Outbox({
    database,
    address: 'loopback://localhost/',
    source: 'trip',
    committed() {}
  })
  const lines: string[] = []
  const log = pino({ level: 'error' }, { write: (line: string) => void lines.push(line) })
  const app = await buildApp(
    testLog,
    (server) =>
      void server.register(sagaRoutes(inspector, host, outbox, new Mask([])), { prefix: '/sagas' })
  )
  t.teardown(() => app.close())
  const ask = async (method: 'GET' | 'POST', url: string, payload?: object) => {
    const answer = await app.inject({ method, url, ...(payload && { payload }) })
    return { status: answer.statusCode, body: answer.json() }
  }
  const handle = (messages: Message[]) =>
    outbox.transaction(async (tx) => outbox.add(tx, await host.handler().handle(messages, tx)))
  const query = (sql: string, values: unknown[] = []): Promise<Row[]> => database.rows(sql, values)
  return {
    projected,
    refuse,
    inspector,
    lines,
    handle,
    query,
    loop: new TimerLoop(host, outbox, log),
    post: (url: string, payload: object) => ask('POST', url, payload),
    get: async (id: string) => (await ask('GET', `/sagas/${id}`)).body,
    url: async (url: string) => (await ask('GET', url)).body,
    booked: (id: string) => handle([message(Booked, { trip: { id }, amount: 5 })]),
    sentMessages: async () =>
      (await query('select message_id from outbox order by id')).map(
        (row) => row.message_id as string
      ),
    async start() {
      const id = randomUUID()
      await outbox.transaction(async (tx) =>
        outbox.add(tx, await host.start(tx, [message(Begun, { id })], new Date()))
      )
      return id
    },
    /** Somebody has the instance's row, until it is released. */
    async other(id: string) {
      const client = await database.session()
      await client.query('begin')
      await client.query('select 1 from saga where saga_id = $1 for update', [id])
      return async () => {
        await client.query('rollback')
        client.release()
      }
    }
  }
}
