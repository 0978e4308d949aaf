import pg from 'pg'
import t, { type Test } from 'tap'
import type {
  TransportMessage,
  PublishOutcome,
  Transport
} from '../../src/messaging/transport/transport.ts'
import { DockShip, TestService, SCHEMA, ship, ships } from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { Relay } from '../../src/messaging/outbox/relay.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { until } from '../../../../test/support/until.ts'

/** Accepts everything and keeps it, in order. */
class Ledger implements Transport {
  readonly address = 'test://localhost/'
  readonly canPublish = true
  readonly keeps = true
  readonly messageIds: string[] = []
  start(flowing: () => void): void {
    flowing()
  }
  async publish({ messageId }: TransportMessage): Promise<PublishOutcome> {
    this.messageIds.push(messageId)
    return 'accepted'
  }
  subscribe(): never {
    throw new Error('nobody listens here')
  }
  knows(): boolean {
    return true
  }
  problem(): undefined {}
  async stop(): Promise<void> {}
}

interface Peer {
  service: TestService
  ledger: Ledger
}

async function openPeer(t: Test, databaseUrl: string): Promise<Peer> {
  const ledger = new Ledger()
  const service = await TestService.open(databaseUrl, ledger)
  t.teardown(() => service.stop())
  return { service, ledger }
}

/** Two processes of one service: the first leads, the second stands by. */
async function openPair(t: Test): Promise<{ leader: Peer; standby: Peer; databaseUrl: string }> {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const leader = await openPeer(t, databaseUrl)
  const standby = await openPeer(t, databaseUrl)
  leader.service.relay.start()
  await until('the first leads', async () => leader.service.relay.leading)
  standby.service.relay.start()
  await until('the second is connected', async () => standby.service.relay.problem() === undefined)
  return { leader, standby, databaseUrl }
}

async function outboxIsEmpty({ service }: Peer): Promise<void> {
  await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
}

t.test(
  'one relay leads; when its connection is terminated one takes over, and nothing is lost',
  async (t) => {
    const { leader, standby } = await openPair(t)
    const first = ship(DockShip)
    await leader.service.send(first)
    await outboxIsEmpty(leader)
    t.same(leader.ledger.messageIds, [first.messageId])
    t.same(standby.ledger.messageIds, [])
    t.notOk(standby.service.relay.leading)

    // Whoever asks first leads next, and that may be the first again: until the other has it.
    const other = await standbyPid(leader.service)
    await until('the other leads', async () => {
      await terminateLeader(leader.service, other)
      return standby.service.relay.leading
    })
    await until('the first has noticed', async () => !leader.service.relay.leading)
    const second = ship(DockShip)
    await standby.service.send(second)
    await outboxIsEmpty(standby)
    t.same(standby.ledger.messageIds, [second.messageId])
    t.same(leader.ledger.messageIds, [first.messageId])
  }
)

t.test('a clock that is set back holds nobody up', async (t) => {
  const { leader, standby } = await openPair(t)
  const { now } = Date
  t.teardown(() => (Date.now = now))
  Date.now = () => now() - 3_600_000
  await leader.service.relay.stop()
  await until('the other leads', async () => standby.service.relay.leading)
  const late = ship(DockShip)
  await standby.service.send(late)
  await outboxIsEmpty(standby)
  t.same(standby.ledger.messageIds, [late.messageId])
})

t.test('a leader that lost its connection comes back by itself', async (t) => {
  const peer = await openPeer(t, await (await postgresForTests()).createDatabase(t.name))
  peer.service.relay.start()
  await until('it leads', async () => peer.service.relay.leading)
  const lost = await leaderPid(peer.service)
  await terminateLeader(peer.service)
  // By its connection: that it does not lead in between may last only a moment.
  await until(
    'it leads on another connection',
    async () =>
      peer.service.relay.leading && ![lost, undefined].includes(await leaderPid(peer.service))
  )
  const sent = ship(DockShip)
  await peer.service.send(sent)
  await outboxIsEmpty(peer)
  t.ok(peer.ledger.messageIds.includes(sent.messageId))
  t.equal(peer.service.relay.problem(), undefined)
})

t.test("a stand-by's wake-up reaches the leader as a notification", async (t) => {
  const { leader, standby, databaseUrl } = await openPair(t)
  const listener = new pg.Client({ connectionString: databaseUrl })
  await listener.connect()
  t.teardown(() => listener.end())
  let notifications = 0
  listener.on('notification', () => notifications++)
  await listener.query(`listen sagabox_outbox_${SCHEMA}`)

  // What the leader does, seen at its own wake(): a notification calls it, the back-stop poll does
  // not.
  let wakeUps = 0
  const wake = leader.service.relay.wake.bind(leader.service.relay)
  leader.service.relay.wake = () => {
    wakeUps++
    wake()
  }
  const sent = ship(DockShip)
  await standby.service.send(sent)
  await until('the stand-by has notified', async () => {
    standby.service.relay.wake()
    return notifications > 0
  })
  await until('the leader was woken by it', async () => wakeUps > 0)
  await outboxIsEmpty(leader)
  t.same(leader.ledger.messageIds, [sent.messageId])
  t.same(standby.ledger.messageIds, [])
})

t.test('rows that commit out of the order of their ids are all sent', async (t) => {
  const peer = await openPeer(t, await (await postgresForTests()).createDatabase(t.name))
  const { service, ledger } = peer
  service.relay.start()
  const [low, high] = ships(DockShip, 2)
  await service.outbox.transaction(async (tx) => {
    service.outbox.add(tx, [low!])
    await tx.query('select 1')
    await service.send(high!)
    await until('the higher id is sent', async () => ledger.messageIds.includes(high!.messageId))
    t.same(ledger.messageIds, [high!.messageId], 'the lower is not committed yet')
  })
  await outboxIsEmpty(peer)
  t.same(ledger.messageIds, [high!.messageId, low!.messageId])
})

t.test('what a savepoint undoes is not sent, and what it keeps is', async (t) => {
  const peer = await openPeer(t, await (await postgresForTests()).createDatabase(t.name))
  const { service, ledger } = peer
  service.relay.start()
  await until('it leads', async () => service.relay.leading)
  const [before, undone, broken, kept] = ships(DockShip, 4)
  await service.outbox.transaction(async (tx) => {
    tx.send(before!)
    await tx.query('savepoint one')
    tx.send(undone!)
    await tx.query('rollback to one')
    await tx.query('savepoint two')
    tx.send(broken!)
    await t.rejects(tx.query('select 1 / 0'), { code: '22012' })
    await tx.query('/* back */ ROLLBACK WORK TO SAVEPOINT two')
    await tx.query('savepoint three')
    tx.send(kept!)
    await tx.query('release three')
  })
  await until('the others are sent', async () => ledger.messageIds.length > 1)
  await outboxIsEmpty(peer)
  t.same(ledger.messageIds, [before!.messageId, kept!.messageId])
})

t.test(
  'rows of a transaction that somebody else has begun: the leader is told when it commits, and of the smallest id',
  async (t) => {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const peer = await openPeer(t, databaseUrl)
    const { service, ledger } = peer
    service.relay.start()
    await until('it leads', async () => service.relay.leading)
    const [theirs, listener] = [1, 2].map(() => new pg.Client({ connectionString: databaseUrl }))
    for (const client of [theirs!, listener!]) {
      await client.connect()
      t.teardown(() => client.end())
    }
    const told: string[] = []
    listener!.on('notification', ({ payload }) => void told.push(payload!))
    await listener!.query(`listen sagabox_outbox_${SCHEMA}`)

    const [undone, low, next, high] = ships(DockShip, 4)
    await theirs!.query('begin')
    await service.outbox.add(theirs!, [undone!])
    await theirs!.query('rollback')
    await theirs!.query('begin')
    await service.outbox.add(theirs!, [low!, next!])
    const lowest = await theirs!.query<{ id: string }>(
      `select min(id)::text as id from ${SCHEMA}.outbox`
    )
    await service.send(high!)
    await until('the higher id is sent', async () => ledger.messageIds.includes(high!.messageId))
    t.same([told, ledger.messageIds], [[], [high!.messageId]])
    await theirs!.query('commit')
    await outboxIsEmpty(peer)
    await until('it is told', async () => told.length > 0)
    t.same(told, [lowest.rows[0]!.id])
    t.same(
      ledger.messageIds,
      [high, low, next].map((one) => one!.messageId)
    )
  }
)

t.test(
  'messages of one transaction are sent in their order, more than one batch of them',
  async (t) => {
    const peer = await openPeer(t, await (await postgresForTests()).createDatabase(t.name))
    const sent = ships(DockShip, 1200)
    await peer.service.send(...sent)
    peer.service.relay.start()
    await outboxIsEmpty(peer)
    t.same(
      [...new Set(peer.ledger.messageIds)],
      sent.map(({ messageId }) => messageId)
    )
  }
)

t.test('a row is not sent before it is due', async (t) => {
  const peer = await openPeer(t, await (await postgresForTests()).createDatabase(t.name))
  const { service, ledger } = peer
  const [later, soon, now] = ships(DockShip, 3)
  await service.send(later!, soon!, now!)
  const due = (id: string, interval: string) =>
    service.database.rows('update outbox set due_at = now() + $2::interval where message_id = $1', [
      id,
      interval
    ])
  await due(later!.messageId, '1 hour')
  await due(soon!.messageId, '500 milliseconds')
  service.relay.start()
  await until('two are sent', async () => (await service.count('outbox')) === 1)
  t.same(
    [...new Set(ledger.messageIds)],
    [now!.messageId, soon!.messageId],
    'the one that had to wait came second'
  )
  await due(later!.messageId, '0')
  await outboxIsEmpty(peer)
  t.equal(ledger.messageIds.at(-1), later!.messageId)
})

t.test('a row that becomes due is sent although others come all the time', async (t) => {
  const peer = await openPeer(t, await (await postgresForTests()).createDatabase(t.name))
  const { service, ledger } = peer
  const [first, late] = ships(DockShip, 2)
  service.relay.start()
  await service.send(first!)
  await outboxIsEmpty(peer)
  const sending: Promise<void>[] = []
  const traffic = setInterval(() => sending.push(service.send(ship(DockShip))), 100)
  t.teardown(() => clearInterval(traffic))
  // As something sent back by another process: nobody says when its time has come.
  await service.database.rows(
    `
      insert into outbox (message_id, destination, required, payload, due_at) values ($1, 'harbour',
        true, '{}', now() + interval '300 milliseconds')`,
    [late!.messageId]
  )
  await until('it is sent', async () => ledger.messageIds.includes(late!.messageId))
  clearInterval(traffic)
  await Promise.all(sending)
  await outboxIsEmpty(peer)
})

t.test('stop() finishes what is in flight and hands over', async (t) => {
  const { leader, standby } = await openPair(t)
  let confirm!: () => void
  const inFlight = new Promise<void>((published) => {
    leader.ledger.publish = ({ messageId }) => {
      leader.ledger.messageIds.push(messageId)
      published()
      return new Promise((resolve) => (confirm = () => resolve('accepted')))
    }
  })
  const [first, second] = ships(DockShip, 2)
  await leader.service.send(first!)
  await inFlight
  let ended = false
  const stopped = leader.service.relay.stop().then(() => (ended = true))
  // The stand-by's second question was certainly asked after stop() was, and answered before its
  // third.
  const asked = countQueries(t, /pg_try_advisory_lock/)
  await until(
    'the stand-by has asked for the lead',
    async () => asked() >= 3 || standby.service.relay.leading
  )
  t.notOk(standby.service.relay.leading || ended, 'not while a message is in flight')
  confirm()
  await stopped
  t.equal(await leader.service.count('outbox'), 0, 'the confirmed row is gone')
  await until('the other leads', async () => standby.service.relay.leading)
  await standby.service.send(second!)
  await outboxIsEmpty(standby)
  t.same(
    [leader.ledger.messageIds, standby.ledger.messageIds],
    [[first!.messageId], [second!.messageId]]
  )
})

/** Counts the statements that this process sends from now on. */
function countQueries(t: Test, pattern: RegExp): () => number {
  let count = 0
  const { query } = pg.Client.prototype
  t.teardown(() => (pg.Client.prototype.query = query))
  pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const [statement] = args
    if (
      pattern.test(typeof statement === 'string' ? statement : (statement as { text: string }).text)
    )
      count++
    return (query as (...args: unknown[]) => unknown).apply(this, args)
  } as typeof query
  return () => count
}

const LEADER = `
  select pid from pg_locks where locktype = 'advisory' and granted
    and classid = hashtext('sagabox.relay')::oid
  and database = (select oid from pg_database where datname = current_database())`

/** Ends the connection that holds the leader's lock, as a failing network or an operator would. */
async function terminateLeader({ database }: TestService, spared = 0): Promise<void> {
  await database.rows(
    `select pg_terminate_backend(pid) from (${LEADER}) as leader where pid <> $1`,
    [spared]
  )
}

async function leaderPid({ database }: TestService): Promise<number | undefined> {
  const [row] = await database.rows(LEADER)
  return row?.pid
}

async function standbyPid({ database }: TestService): Promise<number> {
  const [row] = await database.rows(
    `
      select pid from pg_stat_activity where datname = current_database()
        and application_name like 'sagabox relay %' and pid not in (${LEADER})`
  )
  return row.pid
}

t.test('every row is published once, however the confirms fall', async (t) => {
  const peer = await openPeer(t, await (await postgresForTests()).createDatabase(t.name))
  const sent = ships(DockShip, 2000)
  peer.service.relay.start()
  for (let from = 0; from < sent.length; from += 50)
    await peer.service.send(...sent.slice(from, from + 50))
  await outboxIsEmpty(peer)
  t.equal(peer.ledger.messageIds.length, sent.length)
  t.equal(new Set(peer.ledger.messageIds).size, sent.length)
})

t.test('rows are read and in flight by what they weigh', async (t) => {
  const peer = await openPeer(t, await (await postgresForTests()).createDatabase(t.name))
  const { service, ledger } = peer
  const [count, each] = [600, 600_000]
  await service.database.rows(
    `insert into outbox (message_id, destination, required, payload)
     select gen_random_uuid(), 'harbour', true, repeat('x', ${each})
       from generate_series(1, ${count})`
  )
  let confirms: (() => void)[] = []
  let most = 0
  ledger.publish = ({ messageId }) => {
    ledger.messageIds.push(messageId)
    most = Math.max(most, service.relay.bytesInFlight)
    return new Promise((resolve) => confirms.push(() => resolve('accepted')))
  }
  service.relay.start()
  await until('the transport is full', async () => service.relay.bytesInFlight >= 16 * 1024 * 1024)
  await until('all are sent', async () => {
    for (const confirm of confirms.splice(0)) confirm()
    return (await service.count('outbox')) === 0
  })
  confirms = []
  t.equal(ledger.messageIds.length, count)
  t.ok(most <= 20 * 1024 * 1024 + each, `${most} bytes in flight`)
  t.equal(service.relay.bytesInFlight, 0)

  // Offered ones, too.
  const rows = Array.from({ length: 100 }, (_, n) => ({
    id: String(1_000_000 + n),
    message_id: ship(DockShip).messageId,
    destination: 'harbour',
    required: true,
    payload: 'x'.repeat(each)
  }))
  await until('it is idle', async () => {
    service.relay.offer(rows)
    return service.relay.bytesInFlight > 0
  })
  t.ok(
    service.relay.bytesInFlight <= 16 * 1024 * 1024 + each,
    `${service.relay.bytesInFlight} bytes in flight`
  )
  for (const confirm of confirms.splice(0)) confirm()
})

t.test('after a read that failed the next asks for less', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const asked: number[][] = []
  let failing = 3
  const { query } = pg.Client.prototype
  t.teardown(() => (pg.Client.prototype.query = query))
  pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const [sent] = args as [{ text?: string; values?: unknown[] }]
    if (/from outbox\s+where due_at is null/.test(sent.text ?? '')) {
      asked.push(sent.values!.slice(2) as number[])
      if (failing-- > 0) return Promise.reject(new Error('Query read timeout'))
    }
    return (query as (...args: unknown[]) => unknown).apply(this, args)
  } as typeof query
  const peer = await openPeer(t, databaseUrl)
  await peer.service.send(...ships(DockShip, 30))
  peer.service.relay.start()
  await outboxIsEmpty(peer)
  t.same(
    asked.slice(0, 5),
    [
      [500, 4_194_304],
      [62, 524_288],
      [7, 65_536],
      [1, 8_389],
      [2, 16_778]
    ].slice(0, 5)
  )
})

t.test(
  'a lead that cannot be used is one outage: one line, growing pauses, and not ready until it works',
  async (t) => {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const said = keptLog()
    const service = await TestService.open(databaseUrl, new Ledger(), { log: said })
    t.teardown(() => service.stop())
    const problems = new Set<string | undefined>()
    await service.database.rows('alter table outbox rename to elsewhere')
    service.relay.start()
    await until('it has tried three times', async () => {
      problems.add(service.relay.problem())
      return said.lines.some(({ fields }) => (fields['failures'] as number) >= 3)
    })
    t.notOk(problems.has(undefined), 'never ready in between')
    t.equal(said.lines.filter(({ level }) => level === 'warn').length, 1)
    await service.database.rows('alter table elsewhere rename to outbox')
    await until('it works', async () => service.relay.problem() === undefined)
    t.equal(said.lines.filter(({ message }) => /has its database again/.test(message)).length, 1)
    t.equal(said.lines.filter(({ level }) => level === 'warn').length, 1)
  }
)

t.test('a database that cannot be written to is not led', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const said = keptLog()
  const service = await TestService.open(databaseUrl, new Ledger(), { log: said })
  t.teardown(() => service.stop())
  const name = new URL(databaseUrl).pathname.slice(1)
  service.relay.start()
  await until('it leads', async () => service.relay.leading)
  await service.database.rows(`alter database ${name} set default_transaction_read_only = on`)
  await terminateLeader(service)
  await until('it says why it does not', async () =>
    /read-only/.test(service.relay.problem() ?? '')
  )
  t.notOk(service.relay.leading)
  await service.database.rows(`alter database ${name} reset default_transaction_read_only`)
  await until(
    'it leads again',
    async () => service.relay.leading && service.relay.problem() === undefined
  )
  t.equal(said.lines.filter(({ level }) => level === 'warn').length, 1)
})

t.test('a session whose server takes no writes any more is given up for another', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const said = keptLog()
  const ledger = new Ledger()
  const service = await TestService.open(databaseUrl, ledger, { log: said })
  t.teardown(() => service.stop())
  service.relay.start()
  await until('it leads', async () => service.relay.leading)
  const before = await leaderPid(service)
  // As after a switchover: the open session is read-only, a new one is not.
  const { query } = pg.Client.prototype
  t.teardown(() => (pg.Client.prototype.query = query))
  pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const { text } = args[0] as { text?: string }
    if (
      /^\s*delete from outbox/.test(text ?? '') &&
      (this as unknown as { processID: number }).processID === before
    ) {
      return Promise.reject(
        Object.assign(new Error('cannot execute DELETE in a read-only transaction'), {
          code: '25006'
        })
      )
    }
    return (query as (...args: unknown[]) => unknown).apply(this, args)
  } as typeof query
  const sent = ships(DockShip, 20)
  await service.send(...sent)
  await until('the rows are gone', async () => (await service.count('outbox')) === 0)
  t.not(await leaderPid(service), before)
  t.equal(ledger.messageIds.length, sent.length, 'nothing was sent twice')
  await until('it is said once', async () =>
    said.lines.some(({ message }) => /has its database again/.test(message))
  )
  t.equal(said.lines.filter(({ level }) => level === 'warn').length, 1)
})

t.test('schemas of long names pass wake-ups on, too', async (t) => {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const said = keptLog()
  const relay = () =>
    new Relay({ url: databaseUrl, schema: 'p'.repeat(60), transport: new Ledger(), log: said })
  const service = await TestService.open(databaseUrl, new Ledger())
  t.teardown(() => service.stop())
  await service.database.rows(`create schema ${'p'.repeat(60)}`)
  for (const table of ['outbox', 'outbox_scheduled'])
    await service.database.rows(`create view ${'p'.repeat(60)}.${table} as select * from ${table}`)
  const [leader, standby] = [relay(), relay()]
  t.teardown(() => Promise.all([leader.stop(), standby.stop()]))
  leader.start()
  await until('the first leads', async () => leader.leading && leader.problem() === undefined)
  standby.start()
  await until('the second stands by', async () => standby.problem() === undefined)
  const notified = countQueries(t, /pg_notify/)
  standby.wake()
  await until('it has passed the wake-up on', async () => notified() > 0)
  const asked = countQueries(t, /pg_try_advisory_lock/)
  await until('it has asked for the lead again', async () => asked() > 0)
  t.equal(standby.problem(), undefined)
  t.same(
    said.lines.filter(({ level }) => level === 'warn'),
    []
  )
})

t.test('what waits is sent before the lead is given away', async (t) => {
  const { service, ledger } = await openPeer(
    t,
    await (await postgresForTests()).createDatabase(t.name)
  )
  service.relay.start()
  await until('it leads', async () => service.relay.leading)
  const sent = ships(DockShip, 8000)
  await service.send(...sent)
  await service.relay.stop()
  t.equal(ledger.messageIds.length, sent.length)
  t.equal(await service.count('outbox'), 0)
})
