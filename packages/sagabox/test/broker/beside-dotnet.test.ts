// Beside services that are not ours, whose queues have the arguments that MassTransit gives them.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { EnvelopeWriter } from '../../src/messaging/message/envelope.ts'
import type { Log } from '../../src/messaging/async/log.ts'
import { RabbitTransport } from '../../src/messaging/rabbitmq/transport.ts'
import { topologyOf, type Topology } from '../../src/messaging/transport/topology.ts'
import {
  DockShip,
  TestService,
  ship,
  ShipDockedEvent,
  ShipSailedEvent,
  ShipSightedEvent,
  voyageOf,
  writes
} from '../../../../test/support/harbour.ts'
import type { HarbourProcess } from '../../../../test/support/harbour-process.ts'
import { TYPESCRIPT } from '../../../../test/support/program.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { declareEndpoint, foreignChannel } from '../../../../test/support/masstransit.ts'
import { startSystem } from '../../../../test/support/system.ts'
import { until } from '../../../../test/support/until.ts'

t.setTimeout(180_000)

const HARBOUR = { name: 'harbour', consumes: [ShipSailedEvent, DockShip] }
const CUSTOMS = { name: 'customs', consumes: [ShipSailedEvent, ShipDockedEvent] }
const TYPES = [ShipSailedEvent, DockShip].map(({ exchange }) => exchange)

interface Line {
  message: string
  [field: string]: unknown
}

/** A process: what it says is kept. */
async function openProcess(t: Test, url: string, topology: Topology, databaseUrl?: string) {
  const lines: Line[] = []
  const keep = (fields: object, message: string) => void lines.push({ ...fields, message })
  const log: Log = { debug() {}, info: keep, warn: keep, error: keep }
  const transport = new RabbitTransport({ url, topology, clientName: 'beside', log })
  const service = await TestService.open(
    databaseUrl ?? (await (await postgresForTests()).createDatabase('beside')),
    transport
  )
  t.teardown(async () => {
    await service.stop()
    await transport.stop()
  })
  service.relay.start()
  return {
    service,
    transport,
    lines,
    said: (text: string) => lines.filter(({ message }) => message.includes(text))
  }
}

async function vhost(t: Test): Promise<string> {
  const broker = await rabbitmqForTests()
  const url = await broker.createVhost()
  t.teardown(() => broker.deleteVhost(url))
  return url
}

/** What the management API says. */
async function management(path: string, method = 'GET', body?: object) {
  const { managementUrl, url } = await rabbitmqForTests()
  const { username, password } = new URL(url)
  const response = await fetch(new URL(`/api/${path}`, managementUrl), {
    method,
    headers: {
      authorization: `Basic ${btoa(`${username}:${password}`)}`,
      'content-type': 'application/json'
    },
    ...(body && { body: JSON.stringify(body) })
  })
  if (!response.ok)
    throw new Error(`${method} ${path} answered ${response.status}: ${await response.text()}`)
  const text = await response.text()
  return text === '' ? undefined : JSON.parse(text)
}

const vhostOf = (url: string) => new URL(url).pathname.slice(1)

const USED_AS_IT_IS = 'declared in another way'

/** Arguments of a queue, and what is said of `harbour` and of `harbour_error` for them. */
const DECLARED: Record<string, { arguments: object; lacks: RegExp[]; errors: RegExp[] }> = {
  'quorum, as MassTransit declares it': {
    arguments: { 'x-queue-type': 'quorum' },
    lacks: [
      /^a delivery limit .*RabbitMQ 4 drops a message after 20/,
      /^the dead-letter exchange harbour_error/
    ],
    errors: [/^a delivery limit .*RabbitMQ 4 drops/]
  },
  'classic, as MassTransit declares it': {
    arguments: {},
    lacks: [/^the dead-letter exchange/],
    errors: []
  },
  'classic, named so': {
    arguments: { 'x-queue-type': 'classic' },
    lacks: [/^the dead-letter exchange/],
    errors: []
  },
  'lazy, with priorities': {
    arguments: { 'x-queue-mode': 'lazy', 'x-max-priority': 10 },
    lacks: [/^the dead-letter exchange/],
    errors: []
  },
  'single active consumer, another dead-letter exchange': {
    arguments: {
      'x-queue-type': 'quorum',
      'x-delivery-limit': 5,
      'x-single-active-consumer': true,
      'x-dead-letter-exchange': 'elsewhere'
    },
    lacks: [],
    errors: []
  },
  'with an end of its own': {
    arguments: { 'x-message-ttl': 3_600_000, 'x-expires': 7_200_000, 'x-max-length': 1000 },
    lacks: [
      /^the dead-letter exchange/,
      /x-expires is 7200000/,
      /x-message-ttl is 3600000/,
      /x-max-length is 1000/
    ],
    errors: [/x-expires/, /x-message-ttl/, /x-max-length/]
  }
}

for (const [name, declared] of Object.entries(DECLARED)) {
  t.test(`a queue is used as it is: ${name}`, async (t) => {
    const url = await vhost(t)
    const channel = await foreignChannel(t, url)
    await declareEndpoint(channel, 'harbour', declared.arguments, TYPES)
    for (const queue of ['harbour_error', 'harbour_skipped'])
      await declareEndpoint(channel, queue, declared.arguments)
    const before = await management(`queues/${vhostOf(url)}/harbour`)
    const waiting = ship(ShipSailedEvent)
    channel.publish(
      ShipSailedEvent.exchange,
      '',
      Buffer.from(new EnvelopeWriter('rabbitmq://localhost/', 'port').write(waiting)),
      { contentType: 'application/vnd.masstransit+json', persistent: true }
    )
    await channel.waitForConfirms()

    const { service, transport, said } = await openProcess(
      t,
      url,
      topologyOf([HARBOUR], [ShipSailedEvent, DockShip])
    )
    const other = await openProcess(t, url, topologyOf([HARBOUR], [ShipSailedEvent, DockShip]))
    service.listen('harbour', [writes('harbour', ShipSailedEvent), writes('harbour', DockShip)])
    const sent = [ship(ShipSailedEvent), ship(DockShip)]
    await service.send(...sent)
    await until(
      'all are handled, and what waited',
      async () => (await service.count('effects')) === 3
    )
    t.ok(
      (await service.effects()).some(({ voyageId }) => voyageId === voyageOf(waiting)),
      'what waited in it is not lost'
    )
    await service.sendText('harbour', '{"no": "envelope"}')
    await until(
      'what cannot be read is a dead letter',
      async () => (await service.count('dead_letter')) === 1
    )
    await until('a second process works beside it', async () => other.transport.canPublish)
    t.equal(transport.problem(), undefined)

    t.same(
      (await management(`queues/${vhostOf(url)}/harbour`)).arguments,
      before.arguments,
      'it is as it was'
    )
    for (const [queue, lacks] of [
      ['harbour', declared.lacks],
      ['harbour_error', declared.errors],
      ['harbour_skipped', declared.errors]
    ] as const) {
      const lines = said(USED_AS_IT_IS).filter((line) => line.queue === queue)
      t.equal(lines.length, 1, `${queue}: said once`)
      t.match(lines[0]!.found, declared.arguments)
      t.same(
        Object.keys(lines[0]!.found as object).toSorted(),
        [
          ...new Set(['autoDelete', 'durable', 'x-queue-type', ...Object.keys(declared.arguments)])
        ].toSorted(),
        'nothing that it is not'
      )
      t.equal((lines[0]!.lacks as string[] | undefined)?.length ?? 0, lacks.length)
      if (lacks.length > 0) t.match(lines[0]!.lacks, lacks)
    }
  })
}

t.test('the policy that is named gives the queue what it lacks', async (t) => {
  const url = await vhost(t)
  const channel = await foreignChannel(t, url)
  await declareEndpoint(channel, 'harbour', { 'x-queue-type': 'quorum' }, TYPES)
  const { transport, said } = await openProcess(
    t,
    url,
    topologyOf([HARBOUR], [ShipSailedEvent, DockShip])
  )
  await until('it can publish', async () => transport.canPublish)
  const [{ policy }] = said(USED_AS_IT_IS) as [{ policy: string; message: string }]
  const [, inVhost, name, pattern, definition] =
    /^rabbitmqctl set_policy -p '(.*)' '(.*)' '(.*)' '(\{.*\})' --apply-to queues$/.exec(policy)!
  t.equal(inVhost, decodeURIComponent(vhostOf(url)))
  await management(`policies/${vhostOf(url)}/${name}`, 'PUT', {
    pattern,
    definition: JSON.parse(definition!),
    'apply-to': 'queues'
  })
  channel.publish('harbour', '', Buffer.from('{}'), { persistent: true })
  let deliveries = 0
  await until('it is a dead letter', async () => {
    for (
      let message = await channel.get('harbour');
      message && deliveries < 300;
      message = await channel.get('harbour')
    ) {
      channel.nack(message)
      deliveries++
    }
    return (await channel.checkQueue('harbour_error')).messageCount === 1
  })
  t.ok(deliveries >= 100, `${deliveries} deliveries`)
})

t.test(
  'what cannot be used is named in one sentence, once, and used as soon as it can be',
  async (t) => {
    const url = await vhost(t)
    const channel = await foreignChannel(t, url)
    await channel.assertExchange(ShipSailedEvent.exchange, 'topic', { durable: true })
    await channel.assertQueue('harbour', { durable: true, arguments: { 'x-queue-type': 'stream' } })
    await channel.assertQueue('harbour_error', { exclusive: true })
    const { service, transport, lines } = await openProcess(
      t,
      url,
      topologyOf([HARBOUR], [ShipSailedEvent, DockShip])
    )
    service.listen('harbour', [writes('harbour', DockShip)])
    await until('it says so', async () => lines.length > 0)
    t.match(lines[0], { message: /^Cannot reach RabbitMQ/ })
    const reason = String(lines[0]!.reason)
    t.match(reason, /exchange Contracts:ShipSailedEvent is of type topic; expected fanout/)
    t.match(reason, /queue harbour is of type stream; expected a quorum or a classic queue/)
    t.match(reason, /queue harbour_error is exclusive to another connection/)
    t.match(transport.problem(), /of type stream/)
    await service.send(ship(DockShip))
    await channel.deleteQueue('harbour')
    await channel.deleteQueue('harbour_error')
    await channel.deleteExchange(ShipSailedEvent.exchange)
    await until('the message is handled', async () => (await service.count('effects')) === 1)
    const complaints = lines
      .filter(({ message }) => message.startsWith('Cannot reach'))
      .map((line) => line.reason)
    t.equal(new Set(complaints).size, complaints.length, 'nothing was said twice')
  }
)

t.test('an exchange that is declared in another way serves, if it is a fanout', async (t) => {
  const url = await vhost(t)
  const channel = await foreignChannel(t, url)
  await channel.assertExchange('unrouted', 'fanout')
  await channel.assertExchange(ShipSailedEvent.exchange, 'fanout', {
    durable: true,
    alternateExchange: 'unrouted'
  })
  await channel.assertExchange('harbour', 'fanout', { durable: false, autoDelete: true })
  const { service, said } = await openProcess(
    t,
    url,
    topologyOf([HARBOUR], [ShipSailedEvent, DockShip])
  )
  service.listen('harbour', [writes('harbour', ShipSailedEvent)])
  await service.send(ship(ShipSailedEvent))
  await until('it is handled', async () => (await service.count('effects')) === 1)
  t.match(
    said(USED_AS_IT_IS).map(({ exchange, found, lacks }) => ({ exchange, found, lacks })),
    [
      {
        exchange: ShipSailedEvent.exchange,
        found: { 'alternate-exchange': 'unrouted' },
        lacks: undefined
      },
      {
        exchange: 'harbour',
        found: { durable: false, auto_delete: true },
        lacks: [/^durability/, /^permanence/]
      }
    ]
  )
})

t.test('an adopted queue that is deleted is declared anew', async (t) => {
  const url = await vhost(t)
  const channel = await foreignChannel(t, url)
  await declareEndpoint(channel, 'harbour', {}, TYPES)
  const { service, transport } = await openProcess(
    t,
    url,
    topologyOf([HARBOUR], [ShipSailedEvent, DockShip])
  )
  service.listen('harbour', [writes('harbour', DockShip)])
  await until('it works', async () => transport.problem() === undefined)
  await channel.deleteQueue('harbour')
  await until('it is there again', async () =>
    (await management(`queues/${vhostOf(url)}`)).some(
      ({ name, arguments: found }: { name: string; arguments: object }) =>
        name === 'harbour' && 'x-delivery-limit' in found
    )
  )
  await service.send(ship(DockShip))
  await until('it is handled', async () => (await service.count('effects')) === 1)
})

t.test(
  'a classic queue counts no deliveries, but tells of each after the first: what unfinished starts need',
  async (t) => {
    const url = await vhost(t)
    await declareEndpoint(await foreignChannel(t, url), 'harbour', {})
    const { service, transport } = await openProcess(
      t,
      url,
      topologyOf([HARBOUR], [ShipSailedEvent, DockShip])
    )
    await service.send(ship(DockShip))
    const redeliveries: number[] = []
    const subscription = transport.subscribe('harbour', (delivery) => {
      redeliveries.push(delivery.redeliveries)
      if (redeliveries.length < 3) delivery.requeue()
      else delivery.ack()
    })
    await until('it came three times', async () => redeliveries.length === 3)
    await subscription.cancel()
    t.same(redeliveries, [0, 1, 1])
  }
)

t.test('on a classic queue a message that ends its process is a dead letter, too', async (t) => {
  const url = await vhost(t)
  const channel = await foreignChannel(t, url)
  for (const queue of ['harbour', 'harbour_error', 'harbour_skipped'])
    await declareEndpoint(channel, queue, {}, queue === 'harbour' ? TYPES : [])
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const { service } = await openProcess(
    t,
    url,
    topologyOf([HARBOUR], [ShipSailedEvent, DockShip]),
    databaseUrl
  )
  const deadly = ship(DockShip)
  await service.send(deadly, ship(DockShip), ship(DockShip))
  await until('they are in the queue', async () => (await service.count('outbox')) === 0)
  const options: HarbourProcess = {
    databaseUrl,
    rabbitmqUrl: url,
    dies: 'never',
    deadly: { messageId: deadly.messageId, by: 'SIGKILL' }
  }
  const program = fileURLToPath(
    new URL('../../../../test/support/harbour-process.ts', import.meta.url)
  )
  let deaths = 0
  while (deaths < 10) {
    const child = fork(program, [JSON.stringify(options)], {
      execArgv: [TYPESCRIPT],
      silent: true
    })
    t.teardown(() => child.kill('SIGKILL'))
    const died = once(child, 'exit').then(() => true)
    const buried = until(
      'it is a dead letter',
      async () => (await service.count('dead_letter')) === 1
    ).then(() => false)
    if (!(await Promise.race([died, buried]))) break
    deaths++
  }
  t.equal(deaths, 5)
  t.match(await service.database.rows('select message_id, exception from dead_letter'), [
    { message_id: deadly.messageId, exception: 'DeadlyMessage' }
  ])
  await until('the others are handled', async () => (await service.count('effects')) === 2)
})

const SENDER = topologyOf(
  [HARBOUR],
  [ShipSailedEvent, ShipDockedEvent, ShipSightedEvent],
  [CUSTOMS]
)

t.test(
  'an event waits for an endpoint that has never been there, says so, and goes when it is',
  async (t) => {
    const url = await vhost(t)
    const { service, transport, said } = await openProcess(t, url, SENDER)
    service.listen('harbour', [writes('harbour', ShipSailedEvent)])
    // Harbour takes it too: the broker would confirm it, and customs never hear of it.
    const [sailed, docked, sighted] = [
      ship(ShipSailedEvent),
      ship(ShipDockedEvent),
      ship(ShipSightedEvent)
    ]
    await service.send(sailed, docked, sighted)
    const waiting = await until('both are put off', async () => {
      const rows = await service.database.rows(
        'select message_id, last_error from outbox where due_at > now() order by id'
      )
      return rows.length === 2 && rows
    })
    const reason = 'waiting for endpoint customs, which has never been started'
    t.same(waiting, [
      { message_id: sailed.messageId, last_error: reason },
      { message_id: docked.messageId, last_error: reason }
    ])
    await until(
      'what nobody is known to take has gone',
      async () => (await service.count('outbox')) === 2
    )
    t.equal(await service.count('effects'), 0, 'nobody has it before all can')
    t.equal(transport.problem(), undefined, 'that is no problem of the broker')
    t.same(
      transport.awaited.missing.map(({ endpoint }) => endpoint),
      ['customs']
    )

    // Nothing but the arrival brings them forward.
    await service.database.rows(`update outbox set due_at = now() + interval '1 hour'`)
    const customs = await openProcess(t, url, topologyOf([CUSTOMS], []))
    customs.service.listen('customs', [
      writes('customs', ShipSailedEvent),
      writes('customs', ShipDockedEvent)
    ])
    await until(
      'all have what they take',
      async () =>
        (await service.count('effects')) === 1 && (await customs.service.count('effects')) === 2
    )
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    t.equal(said('has never been started').length, 1)
    t.equal(said('is there').length, 1)
  }
)

t.test(
  'an endpoint of .NET is seen without a touch, and gets what it had no binding for yet',
  async (t) => {
    const url = await vhost(t)
    const channel = await foreignChannel(t, url)
    // Declared by a version that took less, and stopped since.
    await declareEndpoint(channel, 'customs', { 'x-queue-type': 'quorum' }, [
      ShipDockedEvent.exchange
    ])
    const { service, transport } = await openProcess(t, url, SENDER)
    service.listen('harbour', [writes('harbour', ShipSailedEvent)])
    await service.send(ship(ShipSailedEvent), ship(ShipDockedEvent))
    await until(
      'both wait in its queue',
      async () => (await channel.checkQueue('customs')).messageCount === 2
    )
    await until('harbour has its own', async () => (await service.count('effects')) === 1)
    t.same(transport.awaited.missing, [])
    t.same((await management(`queues/${vhostOf(url)}/customs`)).arguments, {
      'x-queue-type': 'quorum'
    })
    t.same(
      (await management(`queues/${vhostOf(url)}`))
        .map(({ name }: { name: string }) => name)
        .toSorted(),
      ['customs', 'harbour', 'harbour_error', 'harbour_skipped'],
      'no other queue of theirs was made'
    )
  }
)

t.test('a queue whose endpoint is not declared to its end is not taken for one', async (t) => {
  const url = await vhost(t)
  const channel = await foreignChannel(t, url)
  await channel.assertQueue('customs', { durable: true })
  const { service, transport } = await openProcess(t, url, SENDER)
  await service.send(ship(ShipDockedEvent))
  await until(
    'it waits',
    async () =>
      (await service.database.rows('select from outbox where last_error is not null')).length === 1
  )
  t.equal(transport.awaited.missing.length, 1)
  await channel.assertExchange('customs', 'fanout', { durable: true })
  await until(
    'it has arrived, whether or not it is bound yet',
    async () => (await channel.checkQueue('customs')).messageCount === 1
  )
})

t.test('what waits is released by the next leader, too', async (t) => {
  const url = await vhost(t)
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const first = await openProcess(t, url, SENDER, databaseUrl)
  await first.service.send(ship(ShipDockedEvent))
  await until(
    'it waits',
    async () =>
      (await first.service.database.rows('select from outbox where last_error is not null'))
        .length === 1
  )
  await first.service.relay.stop()
  await first.service.database.rows(`update outbox set due_at = now() + interval '1 hour'`)
  await declareEndpoint(await foreignChannel(t, url), 'customs', {})
  const second = await openProcess(t, url, SENDER, databaseUrl)
  await until('it has gone', async () => (await second.service.count('outbox')) === 0)
})

for (const late of ['order', 'stock', 'payment'] as const) {
  t.test(
    `three processes on queues of .NET: ${late} comes last, and an order is completed`,
    async (t) => {
      const url = await vhost(t)
      const channel = await foreignChannel(t, url)
      // Another team's endpoints that the services take over: one of each kind.
      await declareEndpoint(channel, 'order', { 'x-queue-type': 'quorum' })
      await declareEndpoint(channel, 'payment', {})
      const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
      const names = (['order', 'stock', 'payment'] as const).filter((name) => name !== late)
      const running = await Promise.all(
        names.map(async (name) => ({
          name,
          ...(await startSystem(t, 'rabbitmq', { services: [name], rabbitmqUrl: url, databaseUrl }))
        }))
      )
      if (late === 'stock') {
        const order = running.find(({ name }) => name === 'order')!
        const orderId = await order.api.placeOrder()
        const { body } = await until('it says what it waits for', async () => {
          const ready = await order.api.call('GET', '/health/ready')
          return ready.status === 200 && ready
        })
        t.match(body, {
          status: 'ready',
          services: {
            order: {
              broker: 'ok',
              endpoints: 'waiting for endpoint stock, which has never been started'
            }
          }
        })
        await until(
          'the outbox says so',
          async () =>
            (await order.api.get('/ops/order/outbox')).lastError ===
            'waiting for endpoint stock, which has never been started'
        )
        const stock = await startSystem(t, 'rabbitmq', {
          services: ['stock'],
          rabbitmqUrl: url,
          databaseUrl
        })
        await order.api.settled(orderId)
        t.match(
          await order.api.get(`/orders/${orderId}`),
          { status: 'Failed' },
          'there is no such product yet'
        )
        running.push({ name: 'stock', ...stock })
        const again = await until('nothing is waited for', async () => {
          const { body: ready } = await order.api.call('GET', '/health/ready')
          return ready.services.order.endpoints === undefined && ready
        })
        t.match(again, { status: 'ready' })
      } else
        running.push({
          name: late,
          ...(await startSystem(t, 'rabbitmq', { services: [late], rabbitmqUrl: url, databaseUrl }))
        })
      const apiOf = (wanted: string) => running.find(({ name }) => name === wanted)!.api
      await apiOf('stock').putProduct('keyboard', 10)
      const orderId = await apiOf('order').placeOrder()
      t.match(await apiOf('order').settled(orderId), { status: 'Completed' })
    }
  )
}
