import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import Type from 'typebox'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { topologyOf, type EndpointTopology } from '../../src/messaging/transport/topology.ts'
import { EnvelopeWriter } from '../../src/messaging/message/envelope.ts'
import { handle, handleBatch } from '../../src/messaging/endpoint/handler.ts'
import { newId } from '../../src/messaging/message/id.ts'
import {
  command,
  event,
  message,
  type Contract,
  type Message
} from '../../src/messaging/message/message.ts'
import { NotRetryable } from '../../src/messaging/inbox/retry.ts'
import type {
  Delivery,
  TransportMessage,
  Transport
} from '../../src/messaging/transport/transport.ts'
import {
  DockShip,
  TestService,
  ship,
  ShipDockedEvent,
  ShipLostEvent,
  ships,
  ShipSailedEvent,
  ShipSightedEvent,
  topology,
  topologyWithLighthouse,
  voyageOf,
  writes
} from '../../../../test/support/harbour.ts'
import type { HarbourProcess } from '../../../../test/support/harbour-process.ts'
import { latch } from '../../../../test/support/latch.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import type { Bus } from '../../../../test/support/buses.ts'
import { TYPESCRIPT } from '../../../../test/support/program.ts'
import { spied } from '../../../../test/support/spied-transport.ts'
import { until } from '../../../../test/support/until.ts'

interface World {
  bus: Bus
  databaseUrl: string
  /** The process under test: its relay runs, its endpoints are the test's to start. */
  service: TestService
}

/** What every transport does, with outbox and relay before it and endpoints behind it. */
export function transportConformance(t: Test, makeBus: (t: Test) => Promise<Bus>): void {
  // It starts processes, which takes seconds on a busy machine; tap's own limit for a file run by
  // hand is 30 s.
  t.setTimeout(120_000)

  async function open(t: Test): Promise<World> {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const bus = await makeBus(t)
    const service = await openService(t, databaseUrl, bus.connect(topology))
    service.relay.start()
    return { bus, databaseUrl, service }
  }

  /** Nothing is under way any more: no copy of a message can still come. */
  async function quiet({ bus, service }: World): Promise<void> {
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    for (const endpoint of ['harbour', 'customs']) {
      for (const queue of [endpoint, `${endpoint}_error`, `${endpoint}_skipped`])
        await until(`the queue ${queue} is empty`, async () => ((await bus.kept(queue)) ?? 0) === 0)
    }
  }

  t.test('it tells how much waits for an endpoint that takes nothing', async (t) => {
    const world = await open(t)
    const transport = world.bus.connect(topology)
    transport.start(() => {})
    await world.service.send(ship(ShipSailedEvent), ship(ShipSailedEvent))
    for (const endpoint of ['harbour', 'customs'])
      await until(
        `two wait for ${endpoint}`,
        async () => (await transport.depthOf?.(endpoint)) === 2
      )
    world.service.listen('harbour', [writes('harbour', ShipSailedEvent)])
    world.service.listen('customs', [writes('customs', ShipSailedEvent)])
    await until('nothing waits', async () => (await transport.depthOf?.('harbour')) === 0)
  })

  t.test('an event reaches every endpoint that takes it, a command its owner only', async (t) => {
    const world = await open(t)
    const { service } = world
    service.listen('harbour', [writes('harbour', ShipSailedEvent), writes('harbour', DockShip)])
    // Customs would take the command if it came.
    service.listen('customs', [writes('customs', ShipSailedEvent), writes('customs', DockShip)])
    const [sailed, dock] = [ship(ShipSailedEvent), ship(DockShip)]
    await service.send(sailed, dock)
    await until('three effects', async () => (await service.count('effects')) >= 3)
    await quiet(world)
    const effects = (await service.effects()).map(
      ({ endpoint, contract, voyageId }) => `${endpoint} ${contract} ${voyageId}`
    )
    t.same(effects.toSorted(), [
      `customs ShipSailedEvent ${voyageOf(sailed)}`,
      `harbour DockShip ${voyageOf(dock)}`,
      `harbour ShipSailedEvent ${voyageOf(sailed)}`
    ])
  })

  t.test('instances of one endpoint share its messages, each handled once', async (t) => {
    const world = await open(t)
    const { bus, service } = world
    const transports = [service.transport, bus.connect(topology)]
    for (const [i, transport] of transports.entries())
      service.listen(
        'harbour',
        [writes('harbour', DockShip, { instance: `instance ${i}` })],
        transport
      )
    await until('both consume', async () =>
      transports.every((transport) => transport.problem() === undefined)
    )
    const sent = ships(DockShip, 200)
    await service.send(...sent)
    await until('all are handled', async () => (await service.count('effects')) >= sent.length)
    await quiet(world)
    const effects = await service.effects()
    t.same(voyagesOf(effects), sent.map(voyageOf).toSorted())
    t.same(
      new Set(effects.map(({ instance }) => instance)),
      new Set(['instance 0', 'instance 1']),
      'both worked'
    )
  })

  t.test(
    'a message whose handler fails comes again, and its neighbours do not wait for it',
    async (t) => {
      const world = await open(t)
      const { service } = world
      const sent = ships(DockShip, 20)
      const guilty = sent[7]!
      let mended = false
      let largest = 0
      const requeued = new Set<string | undefined>()
      service.listen(
        'harbour',
        [
          writes('harbour', DockShip, {
            async then(messages) {
              largest = Math.max(largest, messages.length)
              if (!mended && messages.some(({ messageId }) => messageId === guilty.messageId))
                throw new Error('on the rocks')
            }
          })
        ],
        spied(service.transport, { requeue: ({ messageId }) => requeued.add(messageId) })
      )
      await service.send(...sent)
      await until(
        'all neighbours are handled',
        async () => (await service.count('effects')) === sent.length - 1
      )
      t.ok(largest > 1, 'they came in one batch with it')
      t.notOk(
        (await service.effects()).some(({ voyageId }) => voyageId === voyageOf(guilty)),
        'while it still fails'
      )
      mended = true
      await until('it is handled too', async () => (await service.count('effects')) >= sent.length)
      await quiet(world)
      t.same(voyagesOf(await service.effects()), sent.map(voyageOf).toSorted(), 'every effect once')
      t.same([...requeued], [], 'nothing went back to the queue')
      t.equal(await service.count('dead_letter'), 0)
    }
  )

  t.test('copies of a message are handled once', async (t) => {
    const world = await open(t)
    const { service } = world
    const sent = ship(DockShip)
    const payload = new EnvelopeWriter(service.transport.address, 'port').write(sent)
    for (let copy = 0; copy < 3; copy++) await service.sendText('harbour', payload, sent.messageId)
    service.listen('harbour', [writes('harbour', DockShip)])
    await until('one of them is handled', async () => (await service.count('effects')) > 0)
    await quiet(world)
    const next = ship(DockShip)
    await service.sendText('harbour', payload, sent.messageId)
    await service.send(next)
    await until('what comes after them is handled', async () =>
      (await service.effects()).some(({ voyageId }) => voyageId === voyageOf(next))
    )
    await quiet(world)
    t.same(
      (await service.effects()).map(({ voyageId }) => voyageId),
      [sent, next].map(voyageOf),
      'in one batch or long after'
    )
  })

  t.test(
    'a copy is dropped although its handler would fail, and what is new beside it is handled',
    async (t) => {
      const world = await open(t)
      const { service } = world
      const [old, fresh] = ships(DockShip, 2)
      const handled: string[] = []
      const acknowledged: (string | undefined)[] = []
      service.listen(
        'harbour',
        [
          handleBatch(DockShip, async (messages) => {
            for (const { body } of messages) {
              // As one does whose work is there already.
              if (handled.includes(body.voyageId)) throw new NotRetryable('it has docked')
              handled.push(body.voyageId)
            }
            return []
          })
        ],
        spied(service.transport, { ack: ({ messageId }) => acknowledged.push(messageId) })
      )
      await service.send(old!)
      await until('the first is handled', async () => handled.length === 1)
      // Not delivered again by the broker, but sent again: nothing but the inbox knows it.
      await service.send(old!, fresh!)
      await until('the second is handled', async () => handled.length === 2)
      await quiet(world)
      t.same(handled, [voyageOf(old!), voyageOf(fresh!)])
      t.equal(await service.count('inbox'), 2)
      t.equal(acknowledged.length, 3)
      t.equal(await service.count('dead_letter'), 0)
    }
  )

  t.test('nothing is acknowledged before the commit', async (t) => {
    const world = await open(t)
    const { bus, service } = world
    const [entered, gate] = [latch(), latch()]
    t.teardown(gate.open)
    const acknowledged: Delivery[] = []
    service.listen(
      'harbour',
      [
        writes('harbour', DockShip, {
          async then() {
            entered.open()
            await gate.opened
          }
        })
      ],
      spied(service.transport, { ack: (delivery) => acknowledged.push(delivery) })
    )
    await service.send(ship(DockShip))
    await entered.opened
    await until(
      'the message is seen to be kept',
      async () => ((await bus.kept('harbour')) ?? (await service.count('outbox'))) === 1
    )
    t.equal(acknowledged.length, 0)
    t.equal(await service.count('effects'), 0, 'nothing is committed yet')
    gate.open()
    await quiet(world)
    t.equal(acknowledged.length, 1)
    t.equal(await service.count('effects'), 1)
  })

  t.test(
    'a required message without a queue waits in the outbox, holds nothing up, and is delivered when there is one',
    async (t) => {
      const { bus, service, databaseUrl } = await open(t)
      service.listen('harbour', [writes('harbour', DockShip)])
      const [lost, ...others] = [ship(ShipLostEvent), ...ships(DockShip, 5)]
      await service.send(lost, ...others)
      const row = await until('it has come back', async () => {
        const [waiting] = await service.database.rows(
          'select message_id, attempts, last_error, due_at > now() as later from outbox where attempts > 0'
        )
        return waiting
      })
      t.match(row, { message_id: lost.messageId, attempts: 1, last_error: /no queue/, later: true })
      await until(
        'the others are handled',
        async () => (await service.count('effects')) === others.length
      )
      await until('only it waits', async () => (await service.count('outbox')) === 1)

      let sender = service
      if (!bus.findsLaterQueues) {
        await service.relay.stop()
        sender = await openService(t, databaseUrl, bus.connect(topologyWithLighthouse))
        sender.relay.start()
      }
      sender.listen(
        'lighthouse',
        [writes('lighthouse', ShipLostEvent)],
        bus.findsLaterQueues ? bus.connect(topologyWithLighthouse) : sender.transport
      )
      await until('the lighthouse has it', async () => {
        await service.database.rows('update outbox set due_at = now() where due_at > now()')
        sender.relay.wake()
        return (await service.effects()).some(
          ({ endpoint, voyageId }) => endpoint === 'lighthouse' && voyageId === voyageOf(lost)
        )
      })
      await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    }
  )

  t.test('messages of one transaction under one id reach each its receiver', async (t) => {
    const world = await open(t)
    const { service } = world
    service.listen('harbour', [writes('harbour', DockShip)])
    service.listen('customs', [writes('customs', ShipDockedEvent)])
    for (let round = 0; round < 3; round++) {
      const dock = ship(DockShip)
      const docked = { ...ship(ShipDockedEvent), messageId: dock.messageId }
      await service.send(dock, docked)
      await until('both are handled', async () => {
        const voyages = voyagesOf(await service.effects())
        return [dock, docked].every((sent) => voyages.includes(voyageOf(sent)))
      })
    }
    await quiet(world)
    t.equal(await service.count('effects'), 6)
  })

  t.test(
    'under one id to one receiver, two messages are refused, and copies are not',
    async (t) => {
      const world = await open(t)
      const { service } = world
      service.listen('harbour', [writes('harbour', DockShip)])
      const dock = ship(DockShip)
      await t.rejects(
        service.send(dock, { ...ship(DockShip), messageId: dock.messageId }),
        new RegExp(`Two messages to harbour have the id ${dock.messageId}`)
      )
      await service.send(dock, dock)
      await until('it is handled', async () => (await service.count('effects')) > 0)
      await quiet(world)
      t.equal(await service.count('effects'), 1)
    }
  )

  t.test('what comes back is told from what does not, under one id', async (t) => {
    const { service } = await open(t)
    const messageId = newId()
    const toSend = (destination: string, required = true): TransportMessage => ({
      messageId,
      destination,
      required,
      payload: '{}'
    })
    service.listen('harbour', [])
    await until('the transport can publish', async () => service.transport.canPublish)
    const messages = [
      toSend('Contracts:ShipLostEvent'),
      toSend('harbour'),
      toSend('Contracts:ShipLostEvent', false),
      toSend('Contracts:ShipLostEvent'),
      toSend('harbour')
    ]
    t.same(await Promise.all(messages.map((one) => service.transport.publish(one))), [
      'returned',
      'accepted',
      'accepted',
      'returned',
      'accepted'
    ])
  })

  t.test('what is of a more general type, too, reaches who takes that, each once', async (t) => {
    const port = contracts('port', { correlateBy: 'voyageId' })
    const voyageId = Type.String({ format: 'uuid' })
    const Moved = port.event('ShipMoved', { voyageId })
    const Left = port.event('ShipLeft', { voyageId }, { also: [Moved] })
    const Fled = port.event('ShipFled', { voyageId, why: Type.String() }, { also: [Left] })
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const bus = await makeBus(t)
    const endpoints: [EndpointTopology, EndpointTopology] = [
      { name: 'harbour', consumes: [Moved] },
      { name: 'customs', consumes: [Moved, Fled] }
    ]
    const transport = bus.connect(topologyOf(endpoints, [Left, Fled]))
    const service = await openService(t, databaseUrl, transport)
    service.relay.start()
    const taken: string[] = []
    const takes = (endpoint: string, contract: Contract) =>
      handleBatch(contract, async (messages) => {
        for (const { body } of messages)
          taken.push(`${endpoint} ${contract.name} ${Object.keys(body).join()}`)
        return []
      })
    service.listen('harbour', [takes('harbour', Moved)])
    service.listen('customs', [takes('customs', Moved), takes('customs', Fled)])
    await service.send(Fled({ voyageId: newId(), why: 'customs' }), Left({ voyageId: newId() }))
    await until('all are taken', async () => taken.length === 4)
    await quiet({ bus, databaseUrl, service })
    t.same(taken.toSorted(), [
      'customs ShipFled voyageId,why',
      'customs ShipMoved voyageId',
      'harbour ShipMoved voyageId',
      'harbour ShipMoved voyageId,why'
    ])
    const written = new EnvelopeWriter('rabbitmq://localhost/', 'port').write(
      Fled({ voyageId: newId(), why: 'x' })
    )
    t.same(JSON.parse(written).messageType, [
      'urn:message:Contracts:ShipFled',
      'urn:message:Contracts:ShipLeft',
      'urn:message:Contracts:ShipMoved'
    ])
    t.same(
      topologyOf([endpoints[0]], [Fled], [endpoints[1]]).elsewhere,
      [{ endpoint: 'customs', takes: [Fled.exchange] }],
      'it waits for whoever takes it by another name'
    )
    t.throws(() => port.event('X', { voyageId }, { also: [DockShip] }), {
      message: /also names "DockShip", which is no event/
    })
  })

  t.test(
    'a trace of .NET goes on through all that follows, and what is of none has none',
    async (t) => {
      const world = await open(t)
      const { service } = world
      const taken: Message[] = []
      const beside: unknown[] = []
      service.listen('harbour', [
        handle(ShipSailedEvent, ({ voyageId }) => ShipDockedEvent({ voyageId }))
      ])
      service.listen(
        'customs',
        [
          writes('customs', ShipSailedEvent),
          handleBatch(ShipDockedEvent, async (messages) => {
            taken.push(...messages)
            return []
          })
        ],
        spied(service.transport, {
          deliver: (endpoint, { headers, payload }) => {
            if (endpoint === 'customs' && payload.toString().includes('ShipDockedEvent'))
              beside.push(headers)
          }
        })
      )
      await until('it can publish', async () => service.transport.canPublish)
      const trace = (digit: string) => `00-${digit.repeat(32)}-${digit.repeat(16)}-01`
      const ways = [
        { beside: { 'MT-Activity-Id': trace('1') }, headers: {}, trace: trace('1') },
        {
          beside: { 'MT-Activity-Id': trace('2') },
          headers: { 'MT-Activity-Id': trace('2'), traceparent: trace('3') },
          trace: trace('3')
        },
        { beside: { traceparent: trace('4'), 'MT-Activity-Id': trace('5') }, trace: trace('4') },
        { beside: {}, headers: { 'MT-Activity-Id': trace('6') }, trace: trace('6') },
        { beside: { 'MT-Activity-Id': '|of.another.form.' }, headers: null, trace: undefined },
        { trace: undefined }
      ]
      for (const way of ways) {
        const sailed = ship(ShipSailedEvent)
        await service.transport.publish({
          messageId: sailed.messageId,
          destination: ShipSailedEvent.exchange,
          required: true,
          payload: JSON.stringify({
            messageId: sailed.messageId,
            messageType: [ShipSailedEvent.urn],
            message: sailed.body,
            headers: way.headers
          }),
          headers: way.beside
        })
        await until('it is handled', async () => taken.length === 1)
        t.equal(taken.pop()!.headers['traceparent'], way.trace)
        const expected = way.trace && { traceparent: way.trace, 'MT-Activity-Id': way.trace }
        t.same(beside.pop(), expected ?? {})
      }
      await quiet(world)
    }
  )

  t.test('a contract that the topology does not know is refused where it is added', async (t) => {
    const world = await open(t)
    const { service } = world
    const schema = Type.Object({ voyageId: Type.String({ format: 'uuid' }) })
    const [FoundEvent, Repair] = [
      event('ShipFoundEvent', { owner: 'port', correlateBy: 'voyageId', optional: true, schema }),
      command('RepairShip', { owner: 'dock', correlateBy: 'voyageId', schema })
    ]
    const body = { voyageId: newId() }
    await t.rejects(service.send(message(FoundEvent, body)), {
      name: 'NowhereToSend',
      message:
        /^ShipFoundEvent cannot be sent: the topology has no exchange Contracts:ShipFoundEvent; list it in what a service sends/
    })
    await t.rejects(
      service.send(message(Repair, body)),
      /^RepairShip cannot be sent: .* declare the endpoint dock$/m
    )
    // Already there, as from a process that knew it.
    const insert =
      'insert into outbox (message_id, destination, required, payload) values ($1, $2, false, $3)'
    await service.database.rows(insert, [newId(), 'Contracts:ShipFoundEvent', '{}'])
    service.listen('harbour', [writes('harbour', DockShip)])
    const sent = ships(DockShip, 20)
    await service.send(...sent)
    await until(
      'it is put off',
      async () =>
        (await service.database.rows('select 1 from outbox where put_off is not null')).length === 1
    )
    await service.send(ship(DockShip))
    await until(
      'all others are handled',
      async () => (await service.count('effects')) === sent.length + 1
    )
    t.match(await service.database.rows('select last_error from outbox'), [
      { last_error: /no exchange '?Contracts:ShipFoundEvent/ }
    ])
  })

  t.test('an optional event that nobody takes leaves the outbox', async (t) => {
    const world = await open(t)
    await world.service.send(ship(ShipSightedEvent))
    await quiet(world)
    t.equal(await world.service.count('effects'), 0)
  })

  t.test('stop() finishes what is in flight and gives the rest back', async (t) => {
    const world = await open(t)
    const { bus, service } = world
    const [entered, gate] = [latch(), latch()]
    t.teardown(gate.open)
    let inFlight: string[] | undefined
    const old = service.listen('harbour', [
      writes('harbour', DockShip, {
        instance: 'old',
        async then(messages) {
          inFlight ??= messages.map(voyageOf)
          entered.open()
          await gate.opened
        }
      })
    ])
    const sent = ships(DockShip, 450)
    await service.send(...sent)
    await entered.opened
    const stopped = old.stop()
    gate.open()
    await stopped
    const before = await service.effects()
    t.ok(before.length < sent.length, 'it did not take all')
    t.ok(
      inFlight!.length > 0 &&
        inFlight!.every((voyageId) => before.some((effect) => effect.voyageId === voyageId)),
      'it finished what it had begun'
    )
    service.listen(
      'harbour',
      [writes('harbour', DockShip, { instance: 'new' })],
      bus.connect(topology)
    )
    await until('all are handled', async () => (await service.count('effects')) >= sent.length)
    await quiet(world)
    const effects = await service.effects()
    t.same(voyagesOf(effects), sent.map(voyageOf).toSorted(), 'nothing twice, nothing lost')
    t.equal(
      effects.filter(({ instance }) => instance === 'old').length,
      before.length,
      'after stop() has returned it works no more'
    )
  })

  for (const dies of ['before commit', 'after commit'] as const) {
    t.test(
      `a consumer killed ${dies}${dies === 'after commit' ? ', before the acknowledgement' : ''}: another handles the message, the effect is there once`,
      async (t) => {
        const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
        const bus = await makeBus(t)
        const service = await openService(t, databaseUrl, bus.connect(topology))
        const sent = ship(DockShip)
        await service.send(sent)
        const start = (death: HarbourProcess['dies']) =>
          startHarbour(t, { databaseUrl, rabbitmqUrl: bus.url, dies: death })

        const [, signal] = await once(start(dies), 'exit')
        t.equal(signal, 'SIGKILL')
        t.equal(await service.count('effects'), dies === 'before commit' ? 0 : 1)

        const second = start('never')
        t.same(await once(second, 'message'), ['acknowledged', undefined])
        await quiet({ bus, databaseUrl, service })
        t.same(voyagesOf(await service.effects()), [voyageOf(sent)])
        second.disconnect()
        t.same(await once(second, 'exit'), [0, null])
      }
    )
  }

  t.test(
    'a message that cannot be read becomes a dead letter byte for byte, and the queue goes on',
    async (t) => {
      const world = await open(t)
      const { service } = world
      service.listen('harbour', [writes('harbour', DockShip)])
      const envelope = JSON.parse(
        new EnvelopeWriter(service.transport.address, 'port').write(ship(DockShip))
      )
      const unreadable = [
        {
          payload: '{"messageId": ',
          exception: 'UnreadableMessage',
          reason: /^body: expected a JSON envelope/
        },
        { payload: '', exception: 'UnreadableMessage', reason: /^body: / },
        {
          payload: JSON.stringify({ ...envelope, messageType: ['urn:message:Contracts:Nonsense'] }),
          exception: 'UnknownMessageType',
          reason: /^messageType: .*Nonsense/
        },
        {
          payload: JSON.stringify({ ...envelope, message: { voyageId: 'ça va? \u{1F6A2}' } }),
          exception: 'UnreadableMessage',
          reason: /^message\.voyageId: /
        },
        {
          payload: ` ${JSON.stringify({ ...envelope, messageId: undefined }, null, 3)}\n`,
          exception: 'UnreadableMessage',
          reason: /^messageId: /
        }
      ]
      const [first, last] = ships(DockShip, 2)
      await service.send(first!)
      for (const { payload } of unreadable) await service.sendText('harbour', payload)
      await service.send(last!)
      await until('the good ones are handled', async () => (await service.count('effects')) === 2)
      await until(
        'the others are dead letters',
        async () => (await service.count('dead_letter')) >= unreadable.length
      )
      await quiet(world)
      const letters: { payload: Buffer }[] = await service.database.rows(
        'select endpoint, kind, message_id, payload, exception, reason from dead_letter'
      )
      t.equal(letters.length, unreadable.length)
      for (const { payload, exception, reason } of unreadable) {
        const letter = letters.find((candidate) => candidate.payload.toString() === payload)
        t.match(letter, {
          endpoint: 'harbour',
          kind: exception === 'UnknownMessageType' ? 'skipped' : 'error',
          message_id: String,
          exception,
          reason
        })
      }
    }
  )

  t.test(
    'what is sent in one turn arrives byte for byte and in order, whatever its size and what travels beside it',
    async (t) => {
      const { service } = await open(t)
      // RabbitMQ's frames hold 131,072 bytes, 8 of them its own.
      const sizes = [1, 900, 131_063, 131_064, 131_065, 400_000]
      const texts = [
        ...sizes.map((size) => 'x'.repeat(size)),
        'Zürich 🚢 \u0000',
        '🚢'.repeat(40_000)
      ]
      const sent: TransportMessage[] = texts.flatMap((text) => [
        { messageId: newId(), destination: 'harbour', required: true, payload: text },
        { messageId: newId(), destination: 'harbour', required: false, payload: Buffer.from(text) },
        {
          messageId: newId(),
          destination: 'harbour',
          required: true,
          payload: text,
          headers: { ship: 'Ada' },
          contentType: 'text/plain'
        },
        {
          messageId: 'not thirty-six characters',
          destination: 'harbour',
          required: true,
          payload: text
        }
      ])
      const arrived: Delivery[] = []
      const subscription = service.transport.subscribe('harbour', (delivery) => {
        arrived.push(delivery)
        delivery.ack()
      })
      await until('the transport can publish', async () => service.transport.canPublish)
      t.same(
        new Set(await Promise.all(sent.map((one) => service.transport.publish(one)))),
        new Set(['accepted'])
      )
      await until('all have arrived', async () => arrived.length >= sent.length)
      await subscription.cancel()
      t.same(
        arrived.map(({ messageId }) => messageId),
        sent.map(({ messageId }) => messageId),
        'in order'
      )
      t.ok(
        arrived.every(({ payload }, index) =>
          Buffer.from(payload as string).equals(Buffer.from(sent[index]!.payload as string))
        ),
        'byte for byte'
      )
      t.same(
        arrived.map(({ headers }) => headers['ship']),
        sent.map(({ headers }) => headers?.['ship'])
      )
      t.ok(
        arrived.every(
          ({ contentType }, index) =>
            sent[index]!.contentType === undefined || contentType === 'text/plain'
        )
      )
    }
  )

  t.test('a thousand messages take few transactions and keep their order', async (t) => {
    const world = await open(t)
    const { service } = world
    service.listen('harbour', [writes('harbour', DockShip)])
    const sent = ships(DockShip, 1000)
    await service.send(...sent)
    await until('all are handled', async () => (await service.count('effects')) >= sent.length)
    await quiet(world)
    const effects = await service.effects()
    t.same(
      effects.map(({ voyageId }) => voyageId),
      sent.map(voyageOf),
      'in the order of sending'
    )
    const transactions = new Set(effects.map(({ transaction }) => transaction)).size
    t.comment(`${transactions} transactions`)
    t.ok(transactions >= 10 && transactions <= 250, `${transactions} transactions`)
  })

  t.test('what a handler returns is sent only if its transaction commits', async (t) => {
    const world = await open(t)
    const { service } = world
    // A violation that shows only at the commit.
    await service.database.rows('create table tides (id integer primary key)')
    await service.database.rows(
      'create table anchors (tide integer references tides deferrable initially deferred)'
    )
    const answers: string[] = []
    service.listen('harbour', [
      writes('harbour', DockShip, {
        async then(messages, tx) {
          if (answers.length === 0) await tx.query('insert into anchors values (1)')
          const docked = messages.map((dock) =>
            message(ShipDockedEvent, { voyageId: voyageOf(dock) }, dock)
          )
          answers.push(...docked.map(({ messageId }) => messageId))
          return docked
        }
      })
    ])
    const received: string[] = []
    service.listen('customs', [
      writes('customs', ShipDockedEvent, {
        async then(messages) {
          received.push(...messages.map(({ messageId }) => messageId))
        }
      })
    ])
    const dock = ship(DockShip)
    await service.send(dock)
    await until('customs knows', async () =>
      (await service.effects()).some(({ endpoint }) => endpoint === 'customs')
    )
    await quiet(world)
    t.equal(answers.length, 2, 'the first commit failed')
    t.same(received, [answers[1]])
    t.match(await service.effects(), [
      { endpoint: 'harbour', voyageId: voyageOf(dock) },
      { endpoint: 'customs', voyageId: voyageOf(dock) }
    ])
    t.equal(await service.count('effects'), 2)
  })
}

async function openService(
  t: Test,
  databaseUrl: string,
  transport: Transport
): Promise<TestService> {
  const service = await TestService.open(databaseUrl, transport)
  t.teardown(() => service.stop())
  return service
}

function voyagesOf(effects: { voyageId: string }[]): string[] {
  return effects.map(({ voyageId }) => voyageId).toSorted()
}

function startHarbour(t: Test, options: HarbourProcess): ChildProcess {
  const child = fork(
    fileURLToPath(new URL('../../../../test/support/harbour-process.ts', import.meta.url)),
    [JSON.stringify(options)],
    { execArgv: [TYPESCRIPT] }
  )
  t.teardown(() => child.kill('SIGKILL'))
  return child
}
