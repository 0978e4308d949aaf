import pg from 'pg'
import t, { type Test } from 'tap'
import {
  discardRow,
  OLD_DISCARDED_ROWS,
  listDiscarded,
  listPutOff,
  readDiscarded
} from '../../src/messaging/outbox/discard.ts'
import { OldRowsCleaner } from '../../src/messaging/postgres/old-rows.ts'
import { outboxStatus } from '../../src/messaging/outbox/status.ts'
import {
  PublishInterrupted,
  PublishRefused,
  type TransportMessage,
  type PublishOutcome,
  type Transport
} from '../../src/messaging/transport/transport.ts'
import {
  DockShip,
  log,
  TestService,
  SCHEMA,
  ship,
  ships,
  ShipSailedEvent
} from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { until } from '../../../../test/support/until.ts'

const SAILED = 'Contracts:ShipSailedEvent'

/** Answers as the test says, and remembers what it was given. */
class Broker implements Transport {
  readonly address = 'test://localhost/'
  canPublish = true
  readonly published: TransportMessage[] = []
  answer: (message: TransportMessage) => PublishOutcome | Promise<PublishOutcome> = () => 'accepted'
  start(flowing: () => void): void {
    flowing()
  }
  knows(): boolean {
    return true
  }
  async publish(message: TransportMessage): Promise<PublishOutcome> {
    this.published.push(message)
    return this.answer(message)
  }
  subscribe(): never {
    throw new Error('nobody listens here')
  }
  problem(): undefined {}
  async stop(): Promise<void> {}
  to(destination: string): string[] {
    return this.published
      .filter((message) => message.destination === destination)
      .map(({ messageId }) => messageId)
  }
}

async function open(t: Test) {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const [broker, said] = [new Broker(), keptLog()]
  const service = await TestService.open(databaseUrl, broker, { log: said })
  t.teardown(() => service.stop())
  const putOff = async () =>
    (
      await service.database.rows(
        'select count(*)::integer as count from outbox where put_off is not null'
      )
    )[0].count as number
  const lines = (level: string) => said.lines.filter((line) => line.level === level)
  return { broker, service, databaseUrl, putOff, lines }
}

for (const answer of ['refused', 'returned'] as const) {
  t.test(
    `a destination whose messages are ${answer} costs few publishes and holds nobody up`,
    async (t) => {
      const { broker, service, putOff, lines } = await open(t)
      const isFull = { yes: true }
      broker.answer = ({ destination }) =>
        destination === 'harbour' && isFull.yes ? answer : 'accepted'
      const waiting = ships(DockShip, 1500)
      const other = ship(ShipSailedEvent)
      await service.send(...waiting)
      await service.send(other)
      service.relay.start()
      await until('the other has gone', async () => broker.to(SAILED).includes(other.messageId))
      await until('all the others are put off', async () => (await putOff()) === waiting.length)
      const first = broker.to('harbour').length
      t.ok(
        first <= 500 + 5,
        `${first} of 1500 were tried: what was read before the first answer, and single tries`
      )

      await service.send(...ships(DockShip, 10))
      await until(
        'what is new is put off, too',
        async () => (await putOff()) === waiting.length + 10
      )
      t.ok(broker.to('harbour').length <= first + 5, 'and not tried')
      t.match(lines('warn'), [
        {
          fields: {
            destination: 'harbour',
            reason: answer === 'refused' ? /refused: .*full/ : /no queue/
          }
        }
      ])
      t.equal(lines('warn').length, 1, 'one line')
      const status = await until('none is tried just now', async () => {
        const found = await outboxStatus(service.database, SCHEMA)
        return found.putOff[0]?.rows === waiting.length + 10 && found
      })
      t.match(status, {
        pending: waiting.length + 10,
        atLeast: false,
        lastError: new RegExp(`^${answer}`),
        putOff: [
          {
            destination: 'harbour',
            rows: waiting.length + 10,
            atLeast: false,
            reason: new RegExp(`^${answer}`)
          }
        ]
      })
      await until('attempts are those that were made', async () => {
        const [{ attempts }] = await service.database.rows(
          'select sum(attempts)::integer as attempts from outbox'
        )
        return attempts === broker.to('harbour').length
      })

      isFull.yes = false
      await until('all have gone', async () => (await service.count('outbox')) === 0)
      const sent = new Set(broker.to('harbour').slice(-(waiting.length + 10)))
      t.equal(sent.size, waiting.length + 10, 'each once more')
      await until('it is said', async () =>
        lines('info').some(({ message }) => message === 'This destination takes messages again')
      )
      await service.send(ship(DockShip))
      await until('a new one goes straight away', async () => (await service.count('outbox')) === 0)
    }
  )
}

t.test('what a full destination has refused sets nobody to one at a time', async (t) => {
  const { broker, service } = await open(t)
  const held: (() => void)[] = []
  broker.answer = ({ destination }) =>
    destination === 'harbour'
      ? 'refused'
      : new Promise((resolve) => held.push(() => resolve('accepted')))
  // More than one read: the second comes after the answer to the first row of the first.
  await service.send(ship(DockShip), ...ships(ShipSailedEvent, 599))
  service.relay.start()
  await until('all others are under way at once', async () => held.length === 599)
  for (const confirm of held) confirm()
})

t.test(
  'a message that cannot be sent waits alone; one that was only interrupted goes again at once',
  async (t) => {
    const { broker, service, lines } = await open(t)
    const [bad, ...good] = ships(DockShip, 5)
    const interrupted = good[2]!
    let interruptions = 1
    broker.answer = ({ messageId }) => {
      if (messageId === bad!.messageId)
        throw new PublishRefused('message', 'message size 9 is larger than max size 8')
      if (messageId === interrupted.messageId && interruptions-- > 0)
        throw new PublishInterrupted('the channel went')
      return 'accepted'
    }
    await service.send(bad!, ...good)
    service.relay.start()
    await until('the others have gone', async () => (await service.count('outbox')) === 1)
    const [row] = await service.database.rows(
      'select message_id, put_off, last_error, attempts from outbox'
    )
    t.match(row, { message_id: bad!.messageId, put_off: 'failed', last_error: /larger than/ })
    t.ok(row.attempts >= 1)
    t.equal(lines('warn').length, 1)
    broker.answer = () => 'accepted'
    await service.database.rows('update outbox set due_at = now()')
    await until('it goes when it is due', async () => (await service.count('outbox')) === 0)
  }
)

t.test('a new leader tries what an earlier one put off', async (t) => {
  const { broker, service, databaseUrl, putOff } = await open(t)
  broker.answer = () => 'refused'
  await service.send(...ships(DockShip, 40))
  service.relay.start()
  await until('all are put off', async () => (await putOff()) === 40)
  await service.relay.stop()
  const next = await TestService.open(databaseUrl, new Broker())
  t.teardown(() => next.stop())
  next.relay.start()
  await until('all have gone', async () => (await service.count('outbox')) === 0)
})

t.test('what is put off and made due by hand is tried now', async (t) => {
  const { broker, service, putOff } = await open(t)
  broker.answer = () => 'refused'
  await service.send(...ships(DockShip, 3))
  service.relay.start()
  await until('all are put off', async () => (await putOff()) === 3)
  broker.answer = () => 'accepted'
  await service.database.rows('update outbox set due_at = now()')
  await until('all have gone', async () => (await service.count('outbox')) === 0)
})

t.test('a row that is put off can be listed and discarded, and is not sent any more', async (t) => {
  const { broker, service, putOff } = await open(t)
  broker.answer = () => 'refused'
  const sent = ships(DockShip, 3)
  await service.send(...sent)
  service.relay.start()
  await until('all are put off', async () => (await putOff()) === 3)
  // One is not among them while it is tried.
  const rows = await until('all are listed', async () => {
    const listed = await listPutOff(service.database, 'harbour', 10)
    return listed.length === 3 && listed
  })
  t.match(
    rows,
    sent.map(({ messageId }) => ({
      messageId,
      destination: 'harbour',
      putOff: 'refused',
      attempts: Number,
      reason: /refused/,
      payload: /voyageId/,
      payloadEncoding: 'utf8'
    }))
  )
  t.equal((await listPutOff(service.database, undefined, 10, rows[0])).length, 2)
  t.same(await listPutOff(service.database, 'customs', 10), [])

  t.match(await discardRow(service.database, rows[1]!.id, 'not wanted', log), {
    outcome: 'discarded',
    messageId: sent[1]!.messageId
  })
  t.same(await discardRow(service.database, rows[1]!.id, 'again', log), { outcome: 'unknown' })

  // From here on the relay has the others in its hand.
  let confirm: (() => void)[] = []
  const discarded = new Set([sent[1]!.messageId])
  const before = broker.published.length
  broker.answer = () => new Promise((resolve) => confirm.push(() => resolve('accepted')))
  await until('one is being sent', async () => confirm.length === 1)
  t.same(await discardRow(service.database, rows[0]!.id, 'too late', log), { outcome: 'in hand' })
  await until('all are sent', async () => {
    for (const go of confirm.splice(0)) go()
    return (await service.count('outbox')) === 0
  })
  confirm = []
  t.notOk(broker.published.slice(before).some(({ messageId }) => discarded.has(messageId)))

  t.match(await listDiscarded(service.database, 10), [
    {
      id: rows[1]!.id,
      messageId: sent[1]!.messageId,
      discardReason: 'not wanted',
      putOff: 'refused'
    }
  ])
  t.match(await readDiscarded(service.database, rows[1]!.id), {
    payload: /voyageId/,
    headers: null,
    discardReason: 'not wanted'
  })
  await service.database.rows(
    `update outbox_discarded set discarded_at = now() - interval '31 days'`
  )
  t.equal(await new OldRowsCleaner(service.database, [OLD_DISCARDED_ROWS], log).runOnce(), 1)
})

t.test('a relay that has read a row before it was discarded does not send it', async (t) => {
  const { broker, service, databaseUrl, putOff } = await open(t)
  broker.answer = () => 'refused'
  const [sent] = ships(DockShip, 1)
  await service.send(sent!)
  service.relay.start()
  await until('it is put off', async () => (await putOff()) === 1)
  const [row] = await until('it is listed', async () => {
    const listed = await listPutOff(service.database, undefined, 1)
    return listed.length === 1 && listed
  })
  // Discarded, and not committed yet, while the relay comes to release it.
  const client = new pg.Client({
    connectionString: databaseUrl,
    options: `-c search_path=${SCHEMA}`
  })
  await client.connect()
  t.teardown(() => client.end())
  await client.query('begin')
  await client.query('delete from outbox where id = $1', [row!.id])
  const before = broker.published.length
  broker.answer = () => 'accepted'
  await until(
    'the relay waits for the row',
    async () =>
      (
        await service.database.rows(
          `
            select 1 from pg_stat_activity where wait_event_type = 'Lock'
              and datname = current_database()`
        )
      ).length > 0
  )
  await client.query('commit')
  const other = ship(DockShip)
  await service.send(other)
  await until('another goes', async () => broker.to('harbour').includes(other.messageId))
  t.same(
    broker.published.slice(before).map(({ messageId }) => messageId),
    [other.messageId]
  )
})

t.test('the status counts no further than it has to, and goes by the indexes', async (t) => {
  const { service } = await open(t)
  const fill = (columns: string, values: string, count: number) =>
    service.database.rows(
      `
        insert into outbox (message_id, destination, required,
          payload${columns}) select gen_random_uuid(), 'harbour', true, '{}'${values}
          from generate_series(1, ${count})`
    )
  await fill('', '', 10)
  t.match(await outboxStatus(service.database, SCHEMA), {
    pending: 10,
    atLeast: false,
    postponed: 0,
    putOff: [],
    lastError: null
  })
  await fill(
    ', put_off, due_at, last_error',
    `, 'refused', now() + interval '1 day', 'full'`,
    100_000
  )
  const status = await outboxStatus(service.database, SCHEMA)
  t.match(status, {
    pending: 100_000,
    atLeast: true,
    postponed: 100_000,
    lastError: 'full',
    putOff: [{ destination: 'harbour', rows: 10_000, atLeast: true, reason: 'full' }]
  })
  t.equal(
    (await service.database.rows('select count(*)::integer as count from outbox'))[0].count,
    100_010
  )
  await service.database.rows('delete from outbox where put_off is null')
  t.match(await outboxStatus(service.database, SCHEMA), { pending: 100_000, atLeast: false })
})
