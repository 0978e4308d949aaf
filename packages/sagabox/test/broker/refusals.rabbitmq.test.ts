import { connect, type Channel } from 'amqplib'
import t, { type Test } from 'tap'
import { Blame } from '../../src/messaging/rabbitmq/blame.ts'
import { newId } from '../../src/messaging/message/id.ts'
import {
  PublishInterrupted,
  PublishRefused,
  type TransportMessage
} from '../../src/messaging/transport/transport.ts'
import {
  DockShip,
  TestService,
  ship,
  ShipLostEvent,
  ships,
  topology,
  voyageOf,
  writes
} from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqBus } from '../../../../test/support/buses.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { until } from '../../../../test/support/until.ts'

const LOST = 'Contracts:ShipLostEvent'
const SIGHTED = 'Contracts:ShipSightedEvent'

async function open(t: Test) {
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const bus = await rabbitmqBus(t)
  const said = keptLog()
  const service = await TestService.open(databaseUrl, bus.connect(topology), { log: said })
  t.teardown(() => service.stop())
  await until('the transport can publish', async () => service.transport.canPublish)
  const connection = await connect(bus.url!)
  t.teardown(() => connection.close())
  const putOff = async () =>
    (
      await service.database.rows(
        'select count(*)::integer as count from outbox where put_off is not null'
      )
    )[0].count as number
  return {
    bus,
    service,
    channel: await connection.createChannel(),
    putOff,
    lines: (level: string) => said.lines.filter((line) => line.level === level)
  }
}

/** A queue of somebody else behind the exchange, which is full after one message. */
async function bindFullQueue(channel: Channel, exchange: string): Promise<void> {
  await channel.assertQueue('full', {
    arguments: { 'x-max-length': 1, 'x-overflow': 'reject-publish' }
  })
  await channel.bindQueue('full', exchange, '')
}

function toSend(destination: string, payload = '{}', required = true): TransportMessage {
  return { messageId: newId(), destination, required, payload }
}

t.test(
  'a full queue without a consumer: its messages wait, others go on, and all arrive when it flows',
  async (t) => {
    const { service, channel, putOff, lines } = await open(t)
    await bindFullQueue(channel, LOST)
    service.listen('harbour', [writes('harbour', DockShip)])
    service.relay.start()
    const lost = ships(ShipLostEvent, 90)
    await service.send(...lost)
    await until('all but one are put off', async () => (await putOff()) === 89)
    const docked = ships(DockShip, 50)
    await service.send(...docked)
    await until(
      'others are handled',
      async () => (await service.count('effects')) === docked.length
    )
    t.equal(lines('warn').length, 1)
    t.match(
      await service.database.rows(
        'select distinct put_off, last_error from outbox where put_off is not null'
      ),
      [{ put_off: 'refused', last_error: /^refused: .*full/ }]
    )

    const arrived = new Set<string>()
    await channel.consume('full', (message) => {
      arrived.add(String(message!.properties.messageId))
      channel.ack(message!)
    })
    await until('all have arrived', async () => arrived.size === lost.length)
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
  }
)

t.test(
  'a fanout to two queues of which one is full: the other has each message once in the end',
  async (t) => {
    const { service, channel, putOff } = await open(t)
    await bindFullQueue(channel, 'harbour')
    service.listen('harbour', [writes('harbour', DockShip)])
    service.relay.start()
    const sent = ships(DockShip, 20)
    await service.send(...sent)
    await until('some are put off', async () => (await putOff()) > 0)
    let arrived = 0
    await channel.consume('full', (message) => {
      arrived++
      channel.ack(message!)
    })
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    await until('all are handled', async () => (await service.count('effects')) === sent.length)
    t.same(
      (await service.effects()).map(({ voyageId }) => voyageId).toSorted(),
      sent.map(voyageOf).toSorted()
    )
    t.ok(arrived >= sent.length)
  }
)

t.test(
  'a message whose exchange was deleted takes no other with it for long, and is known',
  async (t) => {
    const { service, channel } = await open(t)
    const { transport } = service
    t.equal(await transport.publish(toSend(LOST)), 'returned')
    await channel.deleteExchange(SIGHTED)
    const guilty = toSend(SIGHTED, '{}', false)
    const answers = await Promise.allSettled([
      transport.publish(guilty),
      ...ships(DockShip, 5).map(() => transport.publish(toSend('harbour')))
    ])
    t.match(answers[0], {
      status: 'rejected',
      reason: { concerns: 'destination', message: /no exchange 'Contracts:ShipSightedEvent'/ }
    })
    t.match(answers[0], { reason: { name: PublishRefused.name } })
    for (const answer of answers.slice(1))
      t.ok(
        answer.status === 'fulfilled' || answer.reason instanceof PublishInterrupted,
        'the others are under no suspicion'
      )
    // The new session has declared it again.
    await until('it can be published', async () => transport.canPublish)
    t.equal(await transport.publish(guilty), 'accepted')

    // What is not in the topology goes alone.
    const nowhere = toSend('nowhere')
    const [first, second] = await Promise.allSettled([
      transport.publish(nowhere),
      transport.publish(toSend('harbour'))
    ])
    t.match(first, {
      status: 'rejected',
      reason: { concerns: 'destination', message: /no exchange 'nowhere'/ }
    })
    t.same(second, { status: 'fulfilled', value: 'accepted' })
    await channel.assertExchange('nowhere', 'fanout')
    t.equal(await transport.publish(nowhere), 'returned')
  }
)

t.test(
  'a message that cannot be encoded, or is larger than the broker takes, waits alone',
  async (t) => {
    const { service, lines } = await open(t)
    const { transport } = service
    const cyclic: Record<string, unknown> = {}
    cyclic['self'] = cyclic
    t.match(
      (await Promise.allSettled([transport.publish({ ...toSend('harbour'), headers: cyclic })]))[0],
      { reason: { concerns: 'message' } }
    )

    // The brokers of the tests take 16 MiB.
    const large = 'x'.repeat(17 * 1024 * 1024)
    await service.sendText(LOST, large)
    const sent = ship(DockShip)
    service.listen('harbour', [writes('harbour', DockShip)])
    service.relay.start()
    await until(
      'it is put off',
      async () =>
        (
          await service.database.rows(
            `select 1 from outbox where put_off = 'failed' and last_error ~ 'larger than'`
          )
        ).length === 1
    )
    await service.send(sent)
    await until('another is handled', async () => (await service.count('effects')) === 1)
    t.equal(lines('warn').filter(({ message }) => /cannot be sent/.test(message)).length, 1)
    // From now on it goes alone: the channel of the others stays.
    const [again, beside] = await Promise.allSettled([
      transport.publish(toSend(LOST, large)),
      transport.publish(toSend('harbour'))
    ])
    t.match(again, {
      status: 'rejected',
      reason: { concerns: 'message', message: /message size 17825792/ }
    })
    t.same(beside, { status: 'fulfilled', value: 'accepted' })
    t.ok(transport.canPublish)
  }
)

t.test(
  'a dead letter that meets a full queue keeps what its sender wrote into the headers',
  async (t) => {
    const { service, channel } = await open(t)
    await bindFullQueue(channel, 'harbour_error')
    await service.transport.publish(toSend('harbour_error', 'fills the queue'))
    service.listen('harbour', [writes('harbour', DockShip)])
    const unreadable = { ...toSend('harbour', 'not an envelope'), headers: { ship: 'Ada' } }
    await service.transport.publish(unreadable)
    // Each try reaches the endpoint's own queue, whoever else refuses it.
    await until(
      'it was tried three times',
      async () =>
        (
          await service.database.rows(
            `select 1 from dead_letter where seen >= 3 and payload = 'not an envelope'`
          )
        ).length === 1
    )
    const arrived: unknown[] = []
    await channel.consume('full', (message) => {
      if (message!.content.toString() === unreadable.payload)
        arrived.push(message!.properties.headers?.['ship'])
      channel.ack(message!)
    })
    await until('the queue has it', async () => arrived.length > 0)
    t.same(new Set(arrived), new Set(['Ada']))
  }
)

t.test("the broker's words tell which message took the channel", async (t) => {
  const [guilty, innocent] = [toSend('a.b', 'x'.repeat(20)), toSend('harbour')]
  const said = (
    text: string,
    code = 'Channel closed by server: 403 (ACCESS-REFUSED) with message'
  ) => new Error(`${code} "${text}"`)
  for (const text of [
    "ACCESS_REFUSED - access to exchange 'a.b' in vhost '/' refused for user 'order'",
    "ACCESS_REFUSED - write access to exchange 'a.b' in vhost '/' refused for user 'order'",
    "ACCESS_REFUSED - cannot publish to internal exchange 'a.b' in vhost '/'",
    "NOT_FOUND - no exchange 'a.b' in vhost '/'"
  ]) {
    const blame = new Blame()
    t.ok(blame.assign(said(text), [innocent, guilty]), text)
    t.match(blame.refusalOf(said(text), guilty), {
      concerns: 'destination',
      message: new RegExp(text.slice(0, 12))
    })
    t.equal(blame.refusalOf(said(text), innocent), undefined)
    t.same([blame.suspects(guilty), blame.suspects(innocent)], [true, false])
    blame.acquit(guilty)
    t.notOk(blame.suspects(guilty))
  }
  for (const text of [
    'PRECONDITION_FAILED - message size 20 is larger than max size 16',
    'PRECONDITION_FAILED - message size 20 is larger than configured max size 16'
  ]) {
    const blame = new Blame()
    t.ok(blame.assign(said(text), [innocent, guilty]))
    t.match(blame.refusalOf(said(text), guilty), { concerns: 'message' })
    t.same([blame.suspects(guilty), blame.suspects(innocent)], [true, false])
  }
  for (const text of ["NOT_FOUND - no exchange 'other' in vhost '/'", 'INTERNAL_ERROR'])
    t.notOk(new Blame().assign(said(text), [innocent, guilty]), text)
})
