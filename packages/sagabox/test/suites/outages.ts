import pg from 'pg'
import type { Test } from 'tap'
import type { Message } from '../../src/messaging/message/message.ts'
import { Refused, NotRetryable } from '../../src/messaging/inbox/retry.ts'
import type { Tx } from '../../src/messaging/postgres/sql.ts'
import { topologyOf } from '../../src/messaging/transport/topology.ts'
import { closeDatabase } from '../../../../test/support/closed-database.ts'
import { latch } from '../../../../test/support/latch.ts'
import {
  DockShip,
  TestService,
  ship,
  ships,
  ShipSailedEvent,
  voyageOf,
  writes,
  type TestServiceOptions
} from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import type { Bus } from '../../../../test/support/buses.ts'
import { spied } from '../../../../test/support/spied-transport.ts'
import { until } from '../../../../test/support/until.ts'

const HARBOUR = { name: 'harbour', consumes: [ShipSailedEvent, DockShip] }

/** No second try, so that one attempt that counts makes a dead letter. */
const STRICT = { immediate: { times: 0, minMs: 1, maxMs: 1 }, redeliverySeconds: [] }

interface Letter {
  message_id: string
  exception: string
  reason: string
  attempts: unknown[]
}

interface Line {
  level: string
  details: Record<string, unknown>
  message: string
}

/**
 * An outage is not a message's fault, and a message's fault is not an outage: on every transport.
 */
export function outageConformance(t: Test, makeBus: (t: Test) => Promise<Bus>): void {
  t.setTimeout(180_000)

  async function open(t: Test, options: Pick<TestServiceOptions, 'longOutageMs'> = {}) {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const bus = await makeBus(t)
    const lines: Line[] = []
    const line = (level: string) => (details: object, message: string) =>
      void lines.push({ level, details: details as Record<string, unknown>, message })
    const log = {
      debug: line('debug'),
      info: line('info'),
      warn: line('warn'),
      error: line('error')
    }
    const service = await TestService.open(
      databaseUrl,
      bus.connect(topologyOf([HARBOUR], [ShipSailedEvent, DockShip])),
      { ...options, log }
    )
    t.teardown(() => service.stop())
    service.relay.start()
    // What was sent before counts as sent by an earlier process.
    await until('the relay leads', async () => service.relay.leading)
    return {
      service,
      databaseUrl,
      lines,
      said: (text: RegExp) => lines.filter(({ message }) => text.test(message)),
      letters: (): Promise<Letter[]> =>
        service.database.rows('select * from dead_letter order by id'),
      handled: (count: number) =>
        until(`${count} are handled`, async () => (await service.count('effects')) === count),
      async quiet() {
        await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
        for (const queue of ['harbour', 'harbour_error'])
          await until(
            `the queue ${queue} is empty`,
            async () => ((await bus.kept(queue)) ?? 0) === 0
          )
      }
    }
  }

  t.test(
    'logins that are refused for long: one delivery is spent, no attempt counts, and it is said once',
    async (t) => {
      const { service, databaseUrl, said, letters, handled, quiet } = await open(t, {
        longOutageMs: 300
      })
      const deliveries: number[] = []
      let givenBack = 0
      const told = spied(service.transport, {
        deliver: (_, { redeliveries }) => deliveries.push(redeliveries),
        requeue: () => givenBack++
      })
      const [entered, gate] = [latch(), latch()]
      let first = true
      const handler = writes('harbour', DockShip, {
        async then() {
          if (!first) return
          first = false
          entered.open()
          await gate.opened
        }
      })
      service.listen('harbour', [{ ...handler, retry: STRICT }], told)
      await service.send(...ships(DockShip, 5))
      await entered.opened
      await service.send(...ships(DockShip, 20))
      await until('they are in hand', async () => deliveries.length === 25)
      const closed = await closeDatabase(databaseUrl)
      gate.open()
      await until('what is held goes back', async () => givenBack === 25)
      await until('the endpoint waits', async () =>
        said(/stay in their queue until it works again/).some(
          ({ details }) => details.endpoint === 'harbour'
        )
      )
      t.match(await service.outbox.problem(), /not currently accepting connections/)
      await closed.open()
      await handled(25)
      await quiet()
      t.same(await letters(), [])
      t.equal(Math.max(...deliveries), 1, 'each came once more')
      t.equal(givenBack, 25)
      t.equal(said(/^Database away/).length, 1)
    }
  )

  t.test(
    'a session that ends in a handler, which says something else of it: no attempt counts',
    async (t) => {
      const { service, databaseUrl, letters, handled, quiet } = await open(t)
      const admin = new pg.Client({ connectionString: databaseUrl })
      await admin.connect()
      t.teardown(() => admin.end())
      let ended = false
      const handler = writes('harbour', DockShip, {
        async then(_, tx) {
          if (ended) return
          ended = true
          const { rows } = await tx.query('select pg_backend_pid() as pid')
          await admin.query('select pg_terminate_backend($1)', [rows[0].pid])
          await tx.query('select 1').catch(() => {
            throw new RangeError('the berth is taken')
          })
        }
      })
      service.listen('harbour', [{ ...handler, retry: STRICT }])
      await service.send(...ships(DockShip, 3))
      await handled(3)
      await quiet()
      t.same(await letters(), [])
    }
  )

  t.test(
    'a session that ends while a handler does something else: no attempt counts',
    async (t) => {
      const { service, databaseUrl, letters, handled, quiet } = await open(t)
      const admin = new pg.Client({ connectionString: databaseUrl })
      await admin.connect()
      t.teardown(() => admin.end())
      let ended = false
      const handler = writes('harbour', DockShip, {
        async then(_, tx) {
          if (ended) return
          ended = true
          const { rows } = await tx.query('select pg_backend_pid() as pid')
          await admin.query('select pg_terminate_backend($1)', [rows[0].pid])
          await new Promise(() => {})
        }
      })
      service.listen('harbour', [{ ...handler, retry: STRICT }])
      await service.send(...ships(DockShip, 3))
      await handled(3)
      await quiet()
      t.same(await letters(), [])
    }
  )

  const own: [what: string, fail: (tx: Tx) => Promise<void>, exception: RegExp][] = [
    [
      'ECONNREFUSED of another server',
      async () => {
        throw Object.assign(new Error('connect ECONNREFUSED 10.0.0.9:443'), {
          code: 'ECONNREFUSED'
        })
      },
      /ECONNREFUSED/
    ],
    [
      '57P01 of another database',
      async () => {
        throw Object.assign(new Error('terminating connection due to administrator command'), {
          code: '57P01'
        })
      },
      /57P01/
    ],
    [
      'pg’s own words about another database',
      async () => {
        throw new Error('Connection terminated unexpectedly')
      },
      /Error/
    ],
    [
      'a session that it ends each time',
      async (tx) => void (await tx.query('select pg_terminate_backend(pg_backend_pid())')),
      /DatabaseAway/
    ],
    [
      'a transaction that it keeps idle for ever',
      async (tx) => {
        await tx.query(`set local idle_in_transaction_session_timeout = '200ms'`)
        await new Promise(() => {})
      },
      /25P03/
    ],
    [
      'an Error whose message is an object',
      async () => {
        throw Object.assign(new Error('x'), { message: { code: 1 } })
      },
      /Error/
    ],
    [
      'an Error whose message cannot be read',
      async () => {
        throw Object.defineProperty(new Error('x'), 'message', {
          get() {
            throw new Error('no')
          }
        })
      },
      /Error/
    ],
    [
      'an Error whose code cannot be read',
      async () => {
        throw Object.defineProperty(new Error('x'), 'code', {
          get() {
            throw new Error('no')
          }
        })
      },
      /Error/
    ],
    [
      'an Error with a number for its stack',
      async () => {
        throw Object.assign(new Error('x'), { stack: 7 })
      },
      /Error/
    ],
    [
      'an Error with a symbol for its name',
      async () => {
        throw Object.assign(new Error('x'), { name: Symbol('x') })
      },
      /Error/
    ],
    [
      'a revoked proxy',
      async () => {
        const { proxy, revoke } = Proxy.revocable({}, {})
        revoke()
        // oxlint-disable-next-line typescript/only-throw-error -- that is what is tested
        throw proxy
      },
      /Error/
    ],
    [
      'nothing',
      async () => {
        // oxlint-disable-next-line typescript/only-throw-error -- that is what is tested
        throw undefined
      },
      /Error/
    ],
    [
      'a symbol',
      async () => {
        // oxlint-disable-next-line typescript/only-throw-error -- that is what is tested
        throw Symbol('tide')
      },
      /Error/
    ],
    [
      'an object without a prototype',
      async () => {
        throw Object.create(null)
      },
      /Error/
    ],
    [
      'an error that is its own cause',
      async () => {
        const error = new Error('round')
        error.cause = error
        throw error
      },
      /Error/
    ],
    [
      'a megabyte of text',
      async () => {
        throw new Error('x'.repeat(1_000_000))
      },
      /Error/
    ]
  ]
  t.test(
    'errors of every shape are the message’s own: it becomes a dead letter, and its neighbours are handled',
    async (t) => {
      const { service, letters, handled, quiet } = await open(t)
      const guilty = new Map<string, (typeof own)[number]>()
      for (const one of own) guilty.set(ship(DockShip).messageId, one)
      const messages = [...guilty.keys()].map((messageId) => ({ ...ship(DockShip), messageId }))
      const handler = writes('harbour', DockShip, {
        async then(batch, tx) {
          for (const { messageId } of batch) await guilty.get(messageId)?.[1](tx)
        }
      })
      service.listen('harbour', [{ ...handler, retry: STRICT }])
      const innocent = ships(DockShip, 20)
      await service.send(
        ...[...messages, ...innocent].toSorted((a, b) =>
          (a.body.voyageId as string) < (b.body.voyageId as string) ? -1 : 1
        )
      )
      await handled(innocent.length)
      await until(
        'all of the others are dead letters',
        async () => (await letters()).length === own.length
      )
      await quiet()
      for (const letter of await letters()) {
        const [what, , exception] = guilty.get(letter.message_id)!
        t.match(letter.exception, exception, what)
        t.ok(
          letter.reason.length > 0 && letter.reason.length <= 2000,
          `${what}: ${letter.reason.slice(0, 60)}`
        )
        t.equal(letter.attempts.length, 1, what)
      }
      t.same(
        (await service.effects()).map(({ voyageId }) => voyageId).toSorted(),
        innocent.map(voyageOf).toSorted()
      )
    }
  )

  t.test('a notRetryable that fails itself says nothing', async (t) => {
    const { service, letters } = await open(t)
    const notRetryable = (error: unknown): boolean =>
      (error as { response: { status: number } }).response.status === 400
    service.listen('harbour', [
      {
        ...writes('harbour', DockShip, {
          async then() {
            throw new Error('no response')
          }
        }),
        retry: { ...STRICT, notRetryable }
      }
    ])
    await service.send(ship(DockShip))
    await until('it is a dead letter', async () => (await letters()).length === 1)
    t.match(await letters(), [{ reason: 'no response' }])
  })

  t.test(
    'somebody’s lock on a row: only those that need it wait, it is said who holds it, and nothing counts',
    async (t) => {
      const { service, databaseUrl, said, letters, handled, quiet } = await open(t)
      await service.database.rows('create table berths (voyage_id uuid primary key)')
      const needing = ships(DockShip, 7)
      await service.database.rows('insert into berths select unnest($1::uuid[])', [
        needing.map(voyageOf)
      ])
      const locker = new pg.Client({
        connectionString: databaseUrl,
        application_name: 'a person at psql'
      })
      await locker.connect()
      await locker.query('begin')
      await locker.query('select from port.berths for update')
      const lock = async (batch: Message[], tx: Tx) =>
        void (await tx.query(
          'select from berths where voyage_id = any($1) order by voyage_id for update',
          [batch.map(voyageOf)]
        ))
      service.listen('harbour', [{ ...writes('harbour', DockShip, { then: lock }), retry: STRICT }])
      const free = ships(DockShip, 40)
      await service.send(...free.slice(0, 20), ...needing.slice(0, 5))
      await handled(20)
      await service.send(...needing.slice(5), ...free.slice(20))
      await handled(40)
      t.same(
        (await service.effects()).map(({ voyageId }) => voyageId).toSorted(),
        free.map(voyageOf).toSorted(),
        'all that do not need it'
      )
      await until('it is said who holds it', async () => said(/holds a lock/).length > 0)
      t.match(said(/holds a lock/)[0]!.details, {
        blocker: { application: 'a person at psql', state: 'idle in transaction' }
      })
      await locker.query('commit')
      await locker.end()
      await handled(47)
      await quiet()
      t.equal(said(/holds a lock/).length, 1, 'once')
      t.same(await letters(), [])
    }
  )

  t.test('more that wait for a lock than may wait aside come again from the outbox', async (t) => {
    const { service, databaseUrl, letters, handled, quiet } = await open(t)
    await service.database.rows('create table gate (open boolean); insert into gate values (true)')
    const locker = new pg.Client({ connectionString: databaseUrl })
    await locker.connect()
    await locker.query('begin')
    await locker.query('select from port.gate for update')
    const guilty = new Set<string>()
    const handler = writes('harbour', DockShip, {
      async then(batch, tx) {
        if (batch.some(({ messageId }) => guilty.has(messageId)))
          await tx.query(`select from gate for update`)
      }
    })
    const needing = ships(DockShip, 130)
    for (const { messageId } of needing) guilty.add(messageId)
    service.listen('harbour', [{ ...handler, retry: STRICT }])
    await service.send(...needing)
    const putOff = async () =>
      await service.database.rows('select headers from outbox where due_at is not null')
    const waiting = await until('some wait in the outbox', async () => {
      const rows = await putOff()
      return rows.length > 0 && rows
    })
    t.notMatch(waiting[0].headers, { 'MT-Redelivery-Count': /./ }, 'not as a failure')
    const free = ships(DockShip, 5)
    await service.send(...free)
    await handled(5)
    await locker.query('commit')
    await locker.end()
    await handled(135)
    await quiet()
    t.same(await letters(), [])
  })

  t.test('those that a handler refuses by name leave the others in one transaction', async (t) => {
    const { service, letters, handled, quiet } = await open(t)
    const orphans = ships(DockShip, 60)
    const orphan = new Set(orphans.map(({ messageId }) => messageId))
    const sizes: number[] = []
    const handler = writes('harbour', DockShip, {
      async then(batch) {
        sizes.push(batch.length)
        const refused = batch.filter(({ messageId }) => orphan.has(messageId))
        if (refused.length > 0)
          throw new Refused(
            new Map(refused.map((one) => [one, new NotRetryable(`no berth for ${voyageOf(one)}`)]))
          )
      }
    })
    const others = ships(DockShip, 40)
    // All in one batch: they are there before the endpoint is.
    await service.send(
      ...orphans.flatMap((one, index) => [one, ...(others[index] ? [others[index]] : [])])
    )
    if (service.transport.address.startsWith('rabbitmq'))
      await until('they have left', async () => (await service.count('outbox')) === 0)
    service.listen('harbour', [handler])
    await handled(40)
    await until('the orphans are dead letters', async () => (await letters()).length === 60)
    await quiet()
    t.ok(sizes.length <= 12, `${sizes.length} batches: ${sizes.join(', ')}`)
    t.match((await letters())[0], { exception: 'NotRetryable', reason: /^no berth for / })
  })

  t.test(
    'those that are refused by name, and may come right, are tried again together',
    async (t) => {
      const { service, handled, quiet } = await open(t)
      const orphans = ships(DockShip, 60)
      const orphan = new Set(orphans.map(({ messageId }) => messageId))
      let [calls, isHere] = [0, false]
      const handler = writes('harbour', DockShip, {
        async then(batch) {
          calls++
          const refused = batch.filter(({ messageId }) => !isHere && orphan.has(messageId))
          if (refused.length > 0)
            throw new Refused(new Map(refused.map((one) => [one, new Error('not yet')])))
        }
      })
      await service.send(...orphans, ...ships(DockShip, 10))
      const immediate = { times: 1000, minMs: 50, maxMs: 50 }
      service.listen('harbour', [{ ...handler, retry: { immediate } }])
      await handled(10)
      await until('they were tried often', async () => calls > 20)
      isHere = true
      await handled(70)
      await quiet()
      t.ok(calls < 60, `${calls} transactions`)
    }
  )
}
