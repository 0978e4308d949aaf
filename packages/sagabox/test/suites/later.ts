import pg from 'pg'
import type { Test } from 'tap'
import { handle } from '../../src/messaging/endpoint/handler.ts'
import { outboxStatus } from '../../src/messaging/outbox/status.ts'
import { advanceMessages } from '../../src/testing/advance.ts'
import type { Bus } from '../../../../test/support/buses.ts'
import {
  DockShip,
  SCHEMA,
  ship,
  ships,
  ShipDockedEvent,
  TestService,
  topology,
  voyageOf,
  writes
} from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { until } from '../../../../test/support/until.ts'

/** What every system does with messages that are to be sent later. */
export function laterConformance(t: Test, makeBus: (t: Test) => Promise<Bus>): void {
  t.setTimeout(120_000)

  async function open(t: Test) {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const bus = await makeBus(t)
    const service = await TestService.open(databaseUrl, bus.connect(topology))
    t.teardown(() => service.stop())
    service.listen('harbour', [writes('harbour', DockShip)])
    service.relay.start()
    const scheduled = async () => (await outboxStatus(service.database, SCHEMA)).scheduled
    const handled = async (count: number) =>
      until(`${count} are handled`, async () => (await service.count('effects')) >= count)
    const docked = async () => (await service.effects()).map(({ voyageId }) => voyageId)
    return { databaseUrl, bus, service, scheduled, handled, docked }
  }

  t.test('a message waits for its time, and is handled once', async (t) => {
    const { service, handled, docked } = await open(t)
    const [late, later, now] = ships(DockShip, 3)
    await service.send(now!, late!.after('10m'), later!.after(new Date(Date.now() + 3_600_000)))
    await handled(1)
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    t.same(await docked(), [voyageOf(now!)])
    const status = await outboxStatus(service.database, SCHEMA)
    t.match(status, { pending: 0, postponed: 0, scheduled: 2, oldestAgeSeconds: 0 })
    const due = Date.parse(status.nextDueAt!) - Date.now()
    t.ok(due > 500_000 && due <= 600_000, `${due} ms`)

    await advanceMessages(service.database, '9m')
    t.equal((await outboxStatus(service.database, SCHEMA)).scheduled, 2)
    await advanceMessages(service.database, '1m')
    await handled(2)
    await advanceMessages(service.database, '50m')
    await handled(3)
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    t.same(await docked(), [now!, late!, later!].map(voyageOf))
    t.match(await outboxStatus(service.database, SCHEMA), { scheduled: 0, nextDueAt: null })
  })

  t.test('what is due soon, or was due long ago, goes by itself', async (t) => {
    const { service, handled, docked } = await open(t)
    const [soon, past] = ships(DockShip, 2)
    await service.send(soon!.after('50ms'), past!.after(new Date(0)))
    await handled(2)
    t.same((await docked()).toSorted(), [soon!, past!].map(voyageOf).toSorted())
  })

  t.test('it is cancelled by its token, together with what else is committed', async (t) => {
    const { service, scheduled, handled, docked } = await open(t)
    const { outbox } = service
    const [first, second, third, instead] = ships(DockShip, 4)
    await service.send(
      first!.after('1h', { token: 'dock 1' }),
      second!.after('1h', { token: 'dock 2' }),
      third!.after('1h')
    )
    t.equal(await outbox.transaction((tx) => outbox.cancel(tx, 'dock 9')), false, 'no such')
    await t.rejects(
      outbox.transaction(async (tx) => {
        t.equal(await outbox.cancel(tx, 'dock 1'), true)
        throw new Error('rolled back')
      }),
      /rolled back/
    )
    t.equal(await scheduled(), 3, 'a cancel that was rolled back cancels nothing')
    await outbox.transaction(async (tx) => {
      t.equal(await outbox.cancel(tx, 'dock 1'), true)
      outbox.add(tx, [instead!])
    })
    t.equal(await outbox.transaction((tx) => outbox.cancel(tx, 'dock 1')), false, 'twice')
    t.equal(
      await outbox.transaction((tx) => outbox.cancel(tx, third!.messageId)),
      true,
      'by its id'
    )
    await handled(1)
    await advanceMessages(service.database, '1h')
    await handled(2)
    t.equal(await outbox.transaction((tx) => outbox.cancel(tx, 'dock 2')), false, 'too late')
    t.same(await docked(), [instead!, second!].map(voyageOf))
  })

  t.test('another message under the token takes its place', async (t) => {
    const { service, scheduled, handled, docked } = await open(t)
    const sent = ships(DockShip, 23)
    const [one, two, three, ...racing] = sent
    await service.send(one!.after('1h', { token: 'dock' }))
    await service.send(two!.after('2h', { token: 'dock' }), three!.after('3h', { token: 'dock' }))
    t.equal(await scheduled(), 1)
    await advanceMessages(service.database, '2h')
    await Promise.all(racing.map((each) => service.send(each.after('1h', { token: 'race' }))))
    t.equal(await scheduled(), 2)
    await advanceMessages(service.database, '1h')
    await handled(2)
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    const voyages = await docked()
    t.equal(voyages.length, 2)
    t.ok(voyages.includes(voyageOf(three!)), 'the last one that was committed')
    t.ok(racing.some((each) => voyages.includes(voyageOf(each))))
  })

  t.test('a transaction that cancels and stays open holds up nobody else', async (t) => {
    const { databaseUrl, service, handled, docked, scheduled } = await open(t)
    const [kept, gone, other] = ships(DockShip, 3)
    await service.send(
      kept!.after('1h', { token: 'kept' }),
      gone!.after('1h', { token: 'gone' }),
      other!.after('1h')
    )
    const client = new pg.Client({
      connectionString: databaseUrl,
      options: `-c search_path=${SCHEMA}`
    })
    await client.connect()
    t.teardown(() => client.end())
    await client.query('begin')
    await client.query(`delete from outbox_scheduled where token = 'gone'`)
    await client.query('savepoint here')
    await client.query(`delete from outbox_scheduled where token = 'kept'`)
    await service.database.rows(
      `update outbox_scheduled set due_at = now() where token not in ('kept', 'gone')`
    )
    await handled(1)
    t.same(await docked(), [voyageOf(other!)])
    await client.query('rollback to here')
    await client.query('commit')
    await advanceMessages(service.database, '1h')
    await handled(2)
    t.same(await docked(), [other!, kept!].map(voyageOf))
    t.equal(await scheduled(), 0)
  })

  t.test('it survives the process, and two relays send it once', async (t) => {
    const { databaseUrl, bus, service, handled, docked } = await open(t)
    const sent = ships(DockShip, 120)
    await service.send(...sent.map((each) => each.after('30d')))
    await service.relay.stop()
    await advanceMessages(service.database, '30d')
    t.equal(await service.count('effects'), 0)
    const others = await Promise.all(
      [1, 2].map(() => TestService.open(databaseUrl, bus.connect(topology)))
    )
    for (const other of others) {
      t.teardown(() => other.stop())
      other.relay.start()
    }
    await handled(sent.length)
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    t.same((await docked()).toSorted(), sent.map(voyageOf).toSorted())
  })

  t.test('a handler sends later, and cancels', async (t) => {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const bus = await makeBus(t)
    const service = await TestService.open(databaseUrl, bus.connect(topology))
    t.teardown(() => service.stop())
    const cancelled: boolean[] = []
    service.listen('harbour', [
      handle(DockShip, async ({ voyageId }, { cancel }) => {
        cancelled.push(await cancel(`docked ${voyageId}`))
        return ship(ShipDockedEvent, voyageId).after('1d', { token: `docked ${voyageId}` })
      })
    ])
    service.listen('customs', [writes('customs', ShipDockedEvent)])
    service.relay.start()
    const { voyageId } = ship(DockShip).body as { voyageId: string }
    for (const count of [1, 2]) {
      await service.send(ship(DockShip, voyageId))
      await until('it is handled', async () => (await service.count('inbox')) === count)
    }
    t.same(cancelled, [false, true])
    await advanceMessages(service.database, '1d')
    await until('customs knows', async () => (await service.count('effects')) === 1)
    const [row] = await service.database.rows(
      'select count(*)::integer as count from outbox_scheduled'
    )
    t.equal(row.count, 0)
  })
}
