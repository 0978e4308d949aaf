import { connect, type ChannelModel, type ConfirmChannel, type ConsumeMessage } from 'amqplib'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { EnvelopeReader } from '../../packages/sagabox/src/messaging/message/envelope.ts'
import { faultOf, isFault } from '../../packages/sagabox/src/messaging/message/fault.ts'
import type { Contract } from '../../packages/sagabox/src/messaging/message/message.ts'
import { shop } from '../../src/shop.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { startSystem, type TestSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

const GUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

const EVENTS = [
  'OrderCreatedEvent',
  'StockReservedEvent',
  'StockNotReservedEvent',
  'StockReleasedEvent',
  'PaymentCompletedEvent',
  'PaymentFailedEvent',
  'OrderCompletedEvent',
  'OrderFailedEvent'
]

/** MassTransit's, in every envelope; what was caused by another message has an initiatorId too. */
const FIELDS = [
  'messageId',
  'conversationId',
  'correlationId',
  'sourceAddress',
  'destinationAddress',
  'messageType',
  'message',
  'sentTime',
  'headers',
  'host'
]

interface Foreigner extends TestSystem {
  channel: ConfirmChannel
  /** What its queue has received. */
  seen: ConsumeMessage[]
  /** Envelopes of one order, in the order of arrival. */
  envelopesOf(orderId: string): Envelope[]
  vhost: string
}

interface Envelope {
  messageId: string
  conversationId: string
  correlationId: string
  initiatorId?: string
  destinationAddress: string
  messageType: string[]
  message: Record<string, unknown>
  headers: Record<string, unknown>
}

/** The system, and beside it a program that knows only MassTransit's names and RabbitMQ. */
async function startBesideForeigner(t: Test): Promise<Foreigner> {
  const rabbitmqUrl = await (await rabbitmqForTests()).createVhost()
  const connection: ChannelModel = await connect(rabbitmqUrl)
  t.teardown(() => connection.close())
  const channel = await connection.createConfirmChannel()
  const { queue } = await channel.assertQueue('foreigner', { exclusive: true })
  for (const event of EVENTS) {
    // It may come first: both sides declare the exchange, alike.
    await channel.assertExchange(`Contracts:${event}`, 'fanout', { durable: true })
    await channel.bindQueue(queue, `Contracts:${event}`, '')
  }
  const seen: ConsumeMessage[] = []
  await channel.consume(queue, (received) => void (received && seen.push(received)), {
    noAck: true
  })
  const system = await startSystem(t, 'rabbitmq', { rabbitmqUrl })
  const envelopesOf = (orderId: string) =>
    seen
      .map(({ content }): Envelope => JSON.parse(content.toString()))
      .filter(({ message }) => message.orderId === orderId)
  return {
    ...system,
    channel,
    seen,
    envelopesOf,
    vhost: decodeURIComponent(new URL(rabbitmqUrl).pathname.slice(1))
  }
}

async function arrived(
  { envelopesOf }: Foreigner,
  orderId: string,
  ...events: string[]
): Promise<Envelope[]> {
  return until(`${events.join(', ')} arrived`, async () => {
    const envelopes = envelopesOf(orderId)
    return (
      events.every((event) =>
        envelopes.some(({ messageType }) => messageType[0] === `urn:message:Contracts:${event}`)
      ) && envelopes
    )
  })
}

t.test('a foreign consumer sees the messages of an order as MassTransit writes them', async (t) => {
  const foreigner = await startBesideForeigner(t)
  const { api, seen, vhost } = foreigner
  await api.putProduct('keyboard', 10, 8900)
  const orders = [
    await api.placeOrder(),
    await api.placeOrder({ paymentMethod: 'pm_card_chargeDeclined' }),
    await api.placeOrder({ items: [{ productId: 'keyboard', quantity: 999 }] })
  ]
  const journeys = [
    ['OrderCreatedEvent', 'StockReservedEvent', 'PaymentCompletedEvent', 'OrderCompletedEvent'],
    [
      'OrderCreatedEvent',
      'StockReservedEvent',
      'PaymentFailedEvent',
      'OrderFailedEvent',
      'StockReleasedEvent'
    ],
    ['OrderCreatedEvent', 'StockNotReservedEvent', 'OrderFailedEvent']
  ]
  for (const [i, orderId] of orders.entries()) {
    const envelopes = await arrived(foreigner, orderId, ...journeys[i]!)
    const conversationId = envelopes.find(
      ({ messageType }) => messageType[0] === 'urn:message:Contracts:OrderCreatedEvent'
    )!.conversationId
    t.match(conversationId, GUID)
    for (const envelope of envelopes)
      t.match(
        envelope,
        { conversationId, correlationId: orderId },
        `${envelope.messageType[0]}: one conversation, one correlation`
      )
    for (const envelope of envelopes) {
      if (envelope.messageType[0] === 'urn:message:Contracts:OrderCreatedEvent') continue
      t.equal(
        envelope.initiatorId,
        orderId,
        `${envelope.messageType[0]}: caused by a message of this order`
      )
    }
    t.same(
      new Set(envelopes.map(({ messageType }) => messageType[0])),
      new Set(journeys[i]!.map((event) => `urn:message:Contracts:${event}`))
    )
  }

  for (const { content, properties, fields } of seen) {
    const envelope = JSON.parse(content.toString())
    const [urn] = envelope.messageType
    const event = fields.exchange.replace('Contracts:', '')
    t.match(
      properties,
      {
        contentType: 'application/vnd.masstransit+json',
        deliveryMode: 2,
        messageId: envelope.messageId
      },
      `${event}: properties`
    )
    t.equal(urn, `urn:message:Contracts:${event}`, 'the exchange and the type have one name')
    t.same(
      new Set(Object.keys(envelope)),
      new Set([...FIELDS, ...(event === 'OrderCreatedEvent' ? [] : ['initiatorId'])]),
      `${event}: fields`
    )
    t.match(envelope, {
      messageId: GUID,
      sourceAddress: /^rabbitmq:\/\/127\.0\.0\.1(:\d+)?\//,
      sentTime: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/,
      host: {
        machineName: String,
        processName: String,
        processId: Number,
        massTransitVersion: String
      }
    })
    t.ok(envelope.sourceAddress.endsWith(`/${vhost}/${ownerOf(event)}`), envelope.sourceAddress)
    t.ok(
      envelope.destinationAddress.endsWith(`/${vhost}/Contracts:${event}`),
      envelope.destinationAddress
    )
  }
  t.match(
    foreigner
      .envelopesOf(orders[0]!)
      .find(({ messageType }) => /StockReserved/.test(messageType[0]!))!.message,
    {
      orderId: orders[0],
      total: 8900,
      currency: 'EUR',
      items: [{ productId: 'keyboard', quantity: 1 }]
    }
  )
})

t.test('an envelope that MassTransit published is taken', async (t) => {
  const foreigner = await startBesideForeigner(t)
  const { api, channel, envelopesOf } = foreigner
  await api.putProduct('keyboard', 10)

  // Payment is away: the order waits, and the foreigner answers in its place.
  const orderId = await api.placeOrder({ paymentMethod: 'pm_sim_unavailable' })
  const [created] = await arrived(foreigner, orderId, 'StockReservedEvent')
  publishAsMassTransit(channel, 'PaymentCompletedEvent', created!.conversationId, {
    orderId: orderId.toUpperCase(),
    amount: 1000,
    currency: 'EUR',
    paidBy: 'a field of their own'
  })
  const saga = await api.settled(orderId)
  t.match(saga, { status: 'Completed' })
  const envelopes = await arrived(foreigner, orderId, 'OrderCompletedEvent')
  const completed = envelopes.find(
    ({ messageType }) => messageType[0] === 'urn:message:Contracts:OrderCompletedEvent'
  )!
  t.match(completed, { conversationId: created!.conversationId, message: { orderId, total: 1000 } })
  t.equal(completed.headers['MT-Activity-Id'], undefined)
  t.equal(completed.headers.traceparent, TRACE, 'the trace goes on')

  // One order of theirs, from the start: stock and payment act on it.
  const theirs = randomUUID()
  const theirConversation = randomUUID()
  publishAsMassTransit(channel, 'OrderCreatedEvent', theirConversation, {
    orderId: theirs,
    customerId: 'ada',
    items: [{ productId: 'keyboard', quantity: 2 }],
    paymentMethod: 'pm_card_visa',
    expectedTotal: null
  })
  await arrived(foreigner, theirs, 'StockReservedEvent', 'PaymentCompletedEvent')
  t.match(
    envelopesOf(theirs).filter(({ messageType }) => !/OrderCreated/.test(messageType[0]!)),
    [{ conversationId: theirConversation }, { conversationId: theirConversation }]
  )
})

t.test(
  'what MassTransit 8.5.12 wrote is read: three recorded messages, and every contract with null for what is absent',
  async (t) => {
    const { consumes } = sagaboxContracts()
    const reader = new EnvelopeReader([...new Set([...consumes, ...consumes.map(faultOf)])])
    const recorded = JSON.parse(
      readFileSync(new URL('../support/masstransit-8.5.12.json', import.meta.url), 'utf8')
    ) as Recorded[]
    const [created, refused, fault] = recorded.map((envelope) =>
      reader.read(JSON.stringify(envelope))
    )
    t.strictSame(created!.body, without(recorded[0]!.message, 'expectedTotal'))
    t.strictSame(refused!.body, without(recorded[1]!.message, 'productId'))
    const { message: faulted, exceptions } = fault!.body as unknown as {
      message: object
      exceptions: unknown
    }
    t.match(exceptions, [
      {
        exceptionType: 'System.InvalidOperationException',
        message: 'boom',
        innerException: { message: 'inner' }
      }
    ])
    t.strictSame(
      faulted,
      without(recorded[2]!.message.message as Recorded['message'], 'expectedTotal')
    )

    for (const contract of consumes) {
      const { properties, required = [] } = contract.schema as unknown as {
        properties: Record<string, unknown>
        required?: string[]
      }
      const body = Object.fromEntries(
        Object.keys(properties).map((name) => [
          name,
          required.includes(name) ? SAMPLES[name] : null
        ])
      )
      const envelope = { ...recorded[0]!, messageType: [contract.urn], message: body }
      t.strictSame(
        reader.read(JSON.stringify(envelope)).body,
        Object.fromEntries(required.map((name) => [name, SAMPLES[name]])),
        contract.name
      )
      const inFault = {
        ...recorded[2]!,
        messageType: [faultOf(contract).urn],
        message: { ...recorded[2]!.message, faultedMessageId: null, message: body }
      }
      t.strictSame(
        (reader.read(JSON.stringify(inFault)).body as unknown as { message: object }).message,
        Object.fromEntries(required.map((name) => [name, SAMPLES[name]])),
        `a fault of ${contract.name}`
      )
      for (const name of required) {
        t.throws(
          () => reader.read(JSON.stringify({ ...envelope, message: { ...body, [name]: null } })),
          { message: `message.${name}: is required, got null` },
          `${contract.name} without ${name}`
        )
      }
    }
  }
)

interface Recorded {
  message: Record<string, unknown>
}

const SAMPLES: Record<string, unknown> = {
  orderId: '01963f2a-7c00-7000-8000-000000000001',
  customerId: 'ada',
  items: [{ productId: 'keyboard', quantity: 1 }],
  paymentMethod: 'pm_card_visa',
  total: 1,
  amount: 1,
  currency: 'EUR',
  reason: 'OutOfStock'
}

/** Every message that one of the services takes. */
function sagaboxContracts() {
  const services = shop({ deadlineSeconds: 30, paymentGateway: 'simulated' })
  const taken = Object.values(services).flatMap(({ consumes }): readonly Contract[] => consumes)
  return { consumes: [...new Set(taken)].filter((contract) => !isFault(contract)) }
}

function without(body: Record<string, unknown>, name: string): Record<string, unknown> {
  const { [name]: absent, ...rest } = body
  if (absent !== null) throw new Error(`${name} was recorded as ${JSON.stringify(absent)}`)
  return rest
}

const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

/**
 * As MassTransit 8 serializes: nulls for what it has not, fields that we do not know, more than one
 * type.
 */
function publishAsMassTransit(
  channel: ConfirmChannel,
  event: string,
  conversationId: string,
  message: object
): void {
  const messageId = randomUUID()
  const envelope = {
    messageId,
    requestId: null,
    correlationId: null,
    conversationId,
    initiatorId: null,
    sourceAddress: 'rabbitmq://dotnet/payment_bus_abcdefgh?temporary=true',
    destinationAddress: `rabbitmq://dotnet/Contracts:${event}`,
    responseAddress: null,
    faultAddress: null,
    messageType: [`urn:message:Contracts:I${event}`, `urn:message:Contracts:${event}`],
    message,
    expirationTime: null,
    sentTime: '2026-01-31T12:00:00.1234567Z',
    headers: { traceparent: TRACE, 'MT-Activity-Id': '00-1-2-00' },
    host: {
      machineName: 'dotnet',
      processName: 'Payment.Api',
      processId: 1,
      assembly: 'Payment.Api',
      assemblyVersion: '1.0.0.0',
      frameworkVersion: '8.0.0',
      massTransitVersion: '8.2.5.0',
      operatingSystemVersion: 'Unix 6.1.0.18'
    }
  }
  channel.publish(`Contracts:${event}`, '', Buffer.from(JSON.stringify(envelope, undefined, 2)), {
    contentType: 'application/vnd.masstransit+json',
    messageId,
    persistent: true,
    headers: { 'Content-Type': 'application/vnd.masstransit+json', publishId: '1' }
  })
}

function ownerOf(event: string): string {
  return event.startsWith('Order') ? 'order' : event.startsWith('Stock') ? 'stock' : 'payment'
}
