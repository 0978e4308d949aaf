// Somebody else's events: JSON without an envelope, over exchanges of any type.
import t, { type Test } from 'tap'
import Type from 'typebox'
import { DeadLetterOffice } from '../../src/messaging/dead-letters/office.ts'
import { handleBatch } from '../../src/messaging/endpoint/handler.ts'
import { NotRetryable } from '../../src/messaging/inbox/retry.ts'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { idOfKey } from '../../src/messaging/message/correlation.ts'
import { foreign } from '../../src/messaging/message/foreign.ts'
import type { Contract, Message } from '../../src/messaging/message/message.ts'
import { topologyOf } from '../../src/messaging/transport/topology.ts'
import type { Bus } from '../../../../test/support/buses.ts'
import { TestService } from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { until } from '../../../../test/support/until.ts'

const fields = { city: Type.String({ minLength: 1 }), degrees: Type.Number() }
const Measured = foreign('Measured', {
  exchange: 'weather',
  type: 'topic',
  key: 'eu.#',
  keyOf: ({ city }) => `eu.${city}`,
  fields,
  correlateBy: 'city'
})

interface World {
  bus: Bus
  service: TestService
  /** What was handled, in order. */
  seen: Message[]
}

/** @param taken each comes by the queue of its name, and is sent, too */
async function open(
  t: Test,
  makeBus: (t: Test) => Promise<Bus>,
  taken: readonly Contract[],
  then: (message: Message) => void = () => {}
): Promise<World> {
  const bus = await makeBus(t)
  const topology = topologyOf(
    taken.map((contract) => ({ name: contract.name, consumes: [contract] })),
    taken
  )
  const url = await (await postgresForTests()).createDatabase()
  const service = await TestService.open(url, bus.connect(topology))
  t.teardown(() => service.stop())
  service.relay.start()
  const seen: Message[] = []
  for (const contract of taken)
    service.listen(contract.name, [
      handleBatch(
        contract,
        async (messages) => {
          messages.forEach(then)
          return []
        },
        { committed: (messages) => void seen.push(...messages) }
      )
    ])
  return { bus, service, seen }
}

async function usable({ service }: World): Promise<void> {
  await until(
    'all is bound',
    async () =>
      service.transport.problem() === undefined && (service.transport.unusable ?? []).length === 0
  )
}

const json = (body: unknown) => JSON.stringify(body)
const citiesOf = (seen: readonly Message[]) =>
  seen.map(({ body }) => (body as { city: string }).city).toSorted()

/** What every transport does with exchanges of others. */
export function foreignConformance(makeBus: (t: Test) => Promise<Bus>): void {
  t.setTimeout(120_000)

  t.test('exchanges of all types bring what is meant, and nothing else', async (t) => {
    const types = [
      foreign('Any', { exchange: 'any', type: 'fanout', fields }),
      foreign('Direct', { exchange: 'direct', type: 'direct', key: 'a', fields }),
      foreign('Star', { exchange: 'topic', type: 'topic', key: 'a.*', fields }),
      foreign('Hash', { exchange: 'topic', type: 'topic', key: 'a.#', fields }),
      foreign('All', { exchange: 'h', type: 'headers', headers: { a: 1, b: 'x' }, fields }),
      foreign('Some', {
        exchange: 'h',
        type: 'headers',
        headers: { 'x-match': 'any', a: 1, b: 'x' },
        fields
      })
    ] as const
    const bus = await makeBus(t)
    const senders = {
      any: await bus.outsider('any', 'fanout'),
      direct: await bus.outsider('direct', 'direct'),
      topic: await bus.outsider('topic', 'topic'),
      h: await bus.outsider('h', 'headers')
    }
    const world = await open(t, async () => bus, types)
    await usable(world)
    const of = (city: string) => ({ body: json({ city, degrees: 1 }) })
    await senders.any(of('any'))
    for (const key of ['a', 'b', 'a.b']) await senders.direct({ ...of(`direct ${key}`), key })
    for (const key of ['a', 'a.b', 'a.b.c', 'b.a'])
      await senders.topic({ ...of(`topic ${key}`), key })
    await senders.h({ ...of('both'), headers: { a: 1, b: 'x' } })
    await senders.h({ ...of('one'), headers: { a: 1 } })
    await senders.h({ ...of('none'), headers: { a: 2 } })
    await until('all have come', async () => world.seen.length >= 9)
    t.same(
      world.seen
        .map(({ contract, body }) => `${contract.name}: ${(body as { city: string }).city}`)
        .toSorted(),
      [
        'All: both',
        'Any: any',
        'Direct: direct a',
        'Hash: topic a',
        'Hash: topic a.b',
        'Hash: topic a.b.c',
        'Some: both',
        'Some: one',
        'Star: topic a.b'
      ].toSorted()
    )
  })

  t.test("its id is AMQP's: a copy is handled once, and what has none each time", async (t) => {
    const world = await open(t, makeBus, [Measured])
    const send = await world.bus.outsider('weather', 'topic')
    await usable(world)
    const uuid = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
    const ids = [uuid, uuid.toUpperCase(), 'evt 1', 'evt 1', undefined, undefined]
    for (const [index, messageId] of ids.entries())
      await send({
        body: json({ city: `c${index >> 1}`, degrees: 1 }),
        key: 'eu',
        contentType: 'application/json',
        ...(messageId !== undefined && { messageId })
      })
    await send({ body: json({ city: 'last', degrees: 1 }), key: 'eu.x' })
    await until('all have come', async () => citiesOf(world.seen).includes('last'))
    await until('four of six and the last', async () => world.seen.length === 5)
    t.same(citiesOf(world.seen), ['c0', 'c1', 'c2', 'c2', 'last'])
    const idOf = (city: string) =>
      world.seen.find(({ body }) => (body as { city: string }).city === city)!.messageId
    t.equal(idOf('c0'), uuid)
    t.equal(idOf('c1'), idOfKey('evt 1'))
    t.equal(world.seen[0]!.correlationId, idOfKey('c0'))
  })

  t.test(
    'JSON goes by many names, and what is none is a dead letter beside the others',
    async (t) => {
      const world = await open(t, makeBus, [Measured])
      const send = await world.bus.outsider('weather', 'topic')
      await usable(world)
      const good = ['application/json', 'application/json; charset=utf-8', 'text/json', undefined]
      const named = [...good, 'application/cloudevents+json', 'APPLICATION/JSON;charset=UTF-8']
      for (const [index, contentType] of named.entries())
        await send({
          body: json({ city: `good ${index}`, degrees: 1, more: [null] }),
          key: 'eu',
          ...(contentType !== undefined && { contentType })
        })
      const bad: [body: string | Buffer, reason: RegExp, contentType?: string][] = [
        ['{"city":"x","degrees":', /^body: expected JSON: /],
        ['', /^body: expected JSON: /],
        ['[]', /^body: expected a JSON object/],
        ['null', /^body: expected a JSON object/],
        [json({ city: 'x', degrees: '7' }), /^body.degrees: must be number/],
        [json({ degrees: 7 }), /^body.city: is required/],
        [json({ city: 'x'.repeat(256), degrees: 7 }), /^body.city: expected at most 255 bytes/],
        [json({ city: '\0', degrees: 7 }), /^body.city: expected text without NUL/],
        [Buffer.from([0x7b, 0xff, 0x7d]), /^body: expected UTF-8/],
        [json({ city: 'x', degrees: 8 }), /^contentType: expected application\/json/, 'text/plain']
      ]
      for (const [body, , contentType] of bad)
        await send({ body, key: 'eu', messageId: '', ...(contentType && { contentType }) })
      await send({ body: json({ city: 'last', degrees: 1 }), key: 'eu' })
      await until('the last has come', async () => citiesOf(world.seen).includes('last'))
      await until(
        'all letters are there',
        async () => (await world.service.count('dead_letter')) === bad.length
      )
      const letters: { reason: string; message_type: string; endpoint: string }[] =
        await world.service.database.rows('select * from dead_letter order by id')
      for (const [, reason] of bad)
        t.ok(
          letters.some((letter) => reason.test(letter.reason)),
          reason.source
        )
      t.ok(
        letters.every(
          ({ message_type: type, endpoint }) => type === 'Measured' && endpoint === 'Measured'
        )
      )
      t.equal(world.seen.length, named.length + 1)
    }
  )

  t.test(
    'letters of the same bytes are letters of their own, and go back as they came',
    async (t) => {
      let broken = true
      const world = await open(t, makeBus, [Measured], () => {
        if (broken) throw new NotRetryable('no thermometer')
      })
      const send = await world.bus.outsider('weather', 'topic')
      await usable(world)
      const { service } = world
      const same = json({ city: 'Rome', degrees: 30 })
      for (let copy = 0; copy < 3; copy++) await send({ body: same, key: 'eu' })
      await send({ body: '{"city":5}', key: 'eu' })
      await send({ body: '{"city":5}', key: 'eu', messageId: 'evt 2' })
      await until('five letters', async () => (await service.count('dead_letter')) === 5)
      broken = false
      const office = new DeadLetterOffice(service.database, service.outbox)
      const letters: { id: string; reason: string }[] = await service.database.rows(
        'select id, reason from dead_letter order by id'
      )
      for (const { id } of letters) await office.retry(Number(id))
      await until('each is handled', async () => world.seen.length === 3)
      const statuses = async () => {
        const rows: { status: string }[] = await service.database.rows(
          'select status from dead_letter'
        )
        return rows.map(({ status }) => status)
      }
      await until(
        'and marked so',
        async () => (await statuses()).filter((one) => one === 'handled').length === 3
      )
      await until(
        'what cannot be read is back',
        async () => (await statuses()).filter((one) => one === 'waiting').length === 2
      )
      t.equal(await service.count('dead_letter'), 5)
      t.same(new Set(citiesOf(world.seen)), new Set(['Rome']))
    }
  )

  t.test('what is sent goes without an envelope, by the key of its body', async (t) => {
    const world = await open(t, makeBus, [Measured])
    await world.bus.outsider('weather', 'topic')
    await usable(world)
    const rome = Measured({ city: 'rome', degrees: 30 })
    await world.service.send(rome)
    await until('it has come', async () => world.seen.length === 1)
    const [{ messageId, body }] = world.seen as [Message]
    t.same({ messageId, body }, { messageId: rome.messageId, body: rome.body })
    await until('and has left the outbox', async () => (await world.service.count('outbox')) === 0)
    const paris = Measured({ city: 'paris', degrees: 20 })
    await world.service.send(paris.after('1ms'))
    await until('what is sent later comes by its key, too', async () => world.seen.length === 2)
    t.same(world.seen[1]!.body, paris.body)
    t.equal(world.seen[1]!.messageId, paris.messageId)
    t.throws(() => Measured({ city: 'rome', degrees: 'hot' as never }), { code: 'INVALID_MESSAGE' })
    const sent = Measured({ city: 'x'.repeat(254), degrees: 1 })
    await t.rejects(world.service.send(sent), {
      message: /its routing key eu\.x.* at most 255 bytes/
    })
  })

  t.test('what no queue takes waits by its key, and what goes by another does not', async (t) => {
    const Said = foreign('Said', {
      exchange: 'news',
      type: 'direct',
      key: 'here',
      keyOf: ({ city }) => city,
      fields
    })
    const world = await open(t, makeBus, [Said])
    await world.bus.outsider('news', 'direct')
    await usable(world)
    await world.service.send(
      Said({ city: 'nowhere', degrees: 1 }),
      Said({ city: 'here', degrees: 1 })
    )
    await until('one has come', async () => world.seen.length === 1)
    await until('and the other waits', async () => (await world.service.count('outbox')) === 1)
    const waits = async () =>
      (await world.service.database.rows('select destination, put_off from outbox')) as object[]
    await until('it is put off', async () => json(await waits()).includes('returned'))
    t.same(await waits(), [{ destination: 'news#nowhere', put_off: 'returned' }])
    await world.service.send(Said({ city: 'here', degrees: 2 }))
    await until('another goes', async () => world.seen.length === 2)
  })

  t.test('what nobody declared is refused when it is added to the outbox', async (t) => {
    const world = await open(t, makeBus, [Measured])
    const Unknown = foreign('Unknown', { exchange: 'other', type: 'fanout', fields })
    const sea = contracts('sea', { correlateBy: 'city' })
    for (const contract of [Unknown, sea.event('Rose', fields), sea.command('Fall', fields)])
      await t.rejects(world.service.send(contract({ city: 'a', degrees: 1 })), {
        code: 'NOWHERE_TO_SEND',
        message: new RegExp(
          `^${contract.name} cannot be sent: the topology has no exchange .*list it`
        )
      })
    t.equal(await world.service.count('outbox'), 0)
  })
}
