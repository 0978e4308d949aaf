import Type from 'typebox'
import t from 'tap'
import {
  EnvelopeWriter,
  EnvelopeReader,
  MAX_MESSAGE_BYTES,
  MAX_VALUES,
  UnknownMessageType,
  UnreadableMessage
} from '../../src/messaging/message/envelope.ts'
import { BodyReader } from '../../src/messaging/message/body-reader.ts'
import { faultOf } from '../../src/messaging/message/fault.ts'
import { command, event, message, type Message } from '../../src/messaging/message/message.ts'
import { busAddress } from '../../src/messaging/rabbitmq/transport.ts'

const OrderId = Type.String({ format: 'uuid' })

const OrderCreatedEvent = event('OrderCreatedEvent', {
  owner: 'order',
  correlateBy: 'orderId',
  schema: Type.Object({
    orderId: OrderId,
    items: Type.Array(Type.Object({ quantity: Type.Integer({ minimum: 1 }) }))
  })
})
const ReleaseStock = command('ReleaseStock', {
  owner: 'stock',
  correlateBy: 'orderId',
  schema: Type.Object({ orderId: OrderId })
})

const ORDER_ID = '01963f2a-7c00-7000-8000-000000000001'
const CONVERSATION_ID = '01963f2a-7c00-7000-8000-000000000002'
const CAUSE_ID = '01963f2a-7c00-7000-8000-000000000003'
const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

const created = (): Message<typeof OrderCreatedEvent> =>
  message(
    OrderCreatedEvent,
    { orderId: ORDER_ID, items: [{ quantity: 2 }] },
    {
      conversationId: CONVERSATION_ID,
      correlationId: CAUSE_ID,
      headers: { traceparent: TRACE, other: 'stays behind' }
    }
  )

const reader = new EnvelopeReader([OrderCreatedEvent, ReleaseStock])

t.test('the golden envelope: every field as MassTransit writes it', async (t) => {
  const sent = created()
  const envelope = JSON.parse(new EnvelopeWriter('rabbitmq://localhost/', 'order').write(sent))
  const { sentTime, host } = envelope
  t.same(envelope, {
    messageId: sent.messageId,
    conversationId: CONVERSATION_ID,
    correlationId: ORDER_ID,
    initiatorId: CAUSE_ID,
    sourceAddress: 'rabbitmq://localhost/order',
    destinationAddress: 'rabbitmq://localhost/Contracts:OrderCreatedEvent',
    messageType: ['urn:message:Contracts:OrderCreatedEvent'],
    message: { orderId: ORDER_ID, items: [{ quantity: 2 }] },
    sentTime,
    headers: { traceparent: TRACE },
    host
  })
  t.match(sent.messageId, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  t.equal(new Date(sentTime).toISOString(), sentTime)
  t.same(Object.keys(host), [
    'machineName',
    'processName',
    'processId',
    'assembly',
    'assemblyVersion',
    'frameworkVersion',
    'massTransitVersion',
    'operatingSystemVersion'
  ])
  t.match(host, { machineName: String, processName: 'node', processId: process.pid })
})

t.test('a command is addressed to the endpoint that owns it', async (t) => {
  const envelope = JSON.parse(
    new EnvelopeWriter('rabbitmq://localhost/', 'order').write(
      message(ReleaseStock, { orderId: ORDER_ID })
    )
  )
  t.equal(envelope.destinationAddress, 'rabbitmq://localhost/stock')
  t.same(envelope.messageType, ['urn:message:Contracts:ReleaseStock'])
})

t.test('a message without a cause begins a conversation', async (t) => {
  const sent = message(ReleaseStock, { orderId: ORDER_ID })
  const envelope = JSON.parse(new EnvelopeWriter('rabbitmq://localhost/', 'order').write(sent))
  t.equal(envelope.conversationId, sent.messageId)
  t.notOk('initiatorId' in envelope)
})

t.test('what was written is read again', async (t) => {
  const sent = created()
  const text = new EnvelopeWriter('rabbitmq://localhost/', 'order').write(sent)
  // Without what says how a message is to be sent.
  const said = Object.entries(sent).filter(([, value]) => value !== undefined)
  t.strictSame(reader.read(text), Object.fromEntries(said))
  t.strictSame(reader.read(Buffer.from(text)), Object.fromEntries(said))
})

t.test('what MassTransit adds or leaves out is understood', async (t) => {
  const received = reader.read(
    JSON.stringify({
      ...good(),
      messageId: CAUSE_ID.toUpperCase(),
      requestId: null,
      conversationId: null,
      initiatorId: undefined,
      correlationId: undefined,
      headers: undefined,
      expirationTime: null,
      messageType: ['urn:message:Contracts:IOrderEvent', 'urn:message:Contracts:OrderCreatedEvent'],
      message: { orderId: ORDER_ID, items: [], note: 'of a later version' }
    })
  )
  t.match(received, {
    messageId: CAUSE_ID,
    conversationId: undefined,
    initiatorId: undefined,
    correlationId: ORDER_ID,
    headers: {}
  })
  t.equal(received.contract, OrderCreatedEvent)
})

t.test(
  'null is absent where a value may be absent, in bodies, faults, headers and the envelope',
  async (t) => {
    const Place = Type.Object({ street: Type.String(), floor: Type.Optional(Type.Integer()) })
    const ParcelSentEvent = event('ParcelSentEvent', {
      owner: 'post',
      correlateBy: 'orderId',
      schema: Type.Object({
        orderId: OrderId,
        note: Type.Optional(Type.String()),
        from: Type.Optional(Place),
        to: Place,
        stops: Type.Array(Place),
        byName: Type.Optional(Type.Record(Type.String(), Place)),
        carrier: Type.Union([
          Type.Object({ kind: Type.Literal('van') }),
          Type.Object({ kind: Type.Literal('ship'), port: Type.Optional(Type.String()) })
        ]),
        insured: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
        size: Type.Optional(
          Type.Intersect([
            Type.Object({ width: Type.Integer() }),
            Type.Object({ height: Type.Optional(Type.Integer()) })
          ])
        ),
        whatever: Type.Optional(Type.Unknown())
      })
    })
    const full = new EnvelopeReader([ParcelSentEvent, faultOf(ParcelSentEvent)])
    const body = {
      orderId: ORDER_ID,
      note: null,
      from: null,
      to: { street: 'a', floor: null },
      stops: [
        { street: 'b', floor: null, theirs: null },
        { street: 'c', floor: 2 }
      ],
      byName: { home: { street: 'd', floor: null } },
      carrier: { kind: 'ship', port: null },
      insured: null,
      size: { width: 1, height: null },
      whatever: null,
      unknown: null
    }
    const read = {
      orderId: ORDER_ID,
      to: { street: 'a' },
      stops: [
        { street: 'b', theirs: null },
        { street: 'c', floor: 2 }
      ],
      byName: { home: { street: 'd' } },
      carrier: { kind: 'ship' },
      insured: null,
      size: { width: 1 },
      whatever: null,
      unknown: null
    }
    const envelope = {
      ...good(),
      messageType: [ParcelSentEvent.urn],
      message: body,
      conversationId: null,
      headers: { traceparent: TRACE, tracestate: null }
    }
    const received = full.read(JSON.stringify(envelope))
    t.strictSame(received.body, read)
    t.same(received.headers, { traceparent: TRACE })
    t.same(full.read(JSON.stringify({ ...envelope, headers: null })).headers, {})

    const fault = {
      faultId: CAUSE_ID,
      faultedMessageId: null,
      timestamp: '2026-01-31T12:00:00.1234567Z',
      exceptions: [
        {
          exceptionType: 'System.Exception',
          message: 'no',
          stackTrace: null,
          source: null,
          data: null,
          innerException: { exceptionType: 'System.IO', innerException: null }
        }
      ],
      host: { machineName: null },
      faultMessageTypes: null,
      message: body
    }
    const heard = full.read(
      JSON.stringify({ ...good(), messageType: [faultOf(ParcelSentEvent).urn], message: fault })
    )
    t.strictSame(heard.body, {
      faultId: CAUSE_ID,
      timestamp: fault.timestamp,
      exceptions: [
        {
          exceptionType: 'System.Exception',
          message: 'no',
          data: null,
          innerException: { exceptionType: 'System.IO', innerException: null }
        }
      ],
      host: {},
      message: read
    })
    t.equal(heard.correlationId, ORDER_ID)

    for (const [field, given] of [
      ['message.to', { ...body, to: null }],
      ['message.to.street', { ...body, to: { street: null } }],
      ['message.stops[1]', { ...body, stops: [{ street: 'b' }, null] }],
      ['message.orderId', { ...body, orderId: null }],
      ['message', null]
    ] as const) {
      t.throws(() => full.read(JSON.stringify({ ...envelope, message: given })), {
        field,
        message: `${field}: is required, got null`
      })
    }
    t.throws(
      () => full.read(JSON.stringify({ ...envelope, message: { ...body, note: 7 } })),
      { field: 'message.note', message: /must be string/ },
      'what is wrong otherwise keeps its name'
    )
    t.equal(
      refusalOf(JSON.stringify({ ...good(), messageId: null })).message,
      'messageId: is required, got null'
    )
    t.equal(
      refusalOf(JSON.stringify({ ...good(), messageType: null })).message,
      'messageType: is required, got null'
    )
  }
)

t.test("a Guid is read in each of .NET's formats, addresses are not looked at", async (t) => {
  const digits = ORDER_ID.replaceAll('-', '')
  for (const id of [
    ORDER_ID,
    ORDER_ID.toUpperCase(),
    `{${ORDER_ID}}`,
    `(${ORDER_ID.toUpperCase()})`,
    digits,
    digits.toUpperCase()
  ]) {
    const addresses = {
      sourceAddress: 'queue:stock',
      destinationAddress: 'exchange:Contracts:OrderCreatedEvent',
      responseAddress: null,
      sentTime: '2026-01-31T12:00:00.1234567+01:00'
    }
    const received = reader.read(
      JSON.stringify({
        ...good(),
        ...addresses,
        messageId: id,
        conversationId: id,
        initiatorId: id,
        message: { orderId: id, items: [] }
      })
    )
    t.match(
      received,
      {
        messageId: ORDER_ID,
        conversationId: ORDER_ID,
        initiatorId: ORDER_ID,
        correlationId: ORDER_ID,
        body: { orderId: ORDER_ID }
      },
      id
    )
  }
  for (const id of [`{${ORDER_ID}`, `${ORDER_ID})`, `{${digits}}`, `${digits}0`])
    t.throws(
      () => reader.read(JSON.stringify({ ...good(), message: { orderId: id, items: [] } })),
      { field: 'message.orderId', message: /^message\.orderId: / },
      id
    )
})

t.test('a bus address with any virtual host makes an envelope', async (t) => {
  for (const vhost of ['\\', '"', 'a name/with a slash', "it's (100%)", '{"x":1}', 'Zürich']) {
    const address = busAddress(`amqp://localhost:5672/${encodeURIComponent(vhost)}`)
    t.match(address, /^rabbitmq:\/\/localhost\/[\w.~%-]+\/$/, 'as MassTransit escapes it')
    t.equal(decodeURIComponent(address.slice('rabbitmq://localhost/'.length, -1)), vhost)
    for (const written of [address, `rabbitmq://localhost/${vhost}/`]) {
      const envelope = JSON.parse(new EnvelopeWriter(written, 'order').write(created()))
      t.match(envelope, {
        sourceAddress: `${written}order`,
        destinationAddress: `${written}Contracts:OrderCreatedEvent`
      })
    }
  }
  t.equal(busAddress('amqp://localhost'), 'rabbitmq://localhost/')
  t.equal(busAddress('amqp://localhost/%2F'), 'rabbitmq://localhost/')
  t.equal(busAddress('amqps://user:x@mq.example:5671/shop'), 'rabbitmq://mq.example:5671/shop/')
})

t.test('hostile input is refused, naming the field', async (t) => {
  const cases: [name: string, payload: unknown, field: string][] = [
    ['nothing', '', 'body'],
    ['half of it', '{"messageId"', 'body'],
    ['not text', Buffer.from([0xff, 0x00, 0xfe]), 'body'],
    ['null', 'null', 'body'],
    ['a list', '[]', 'body'],
    ['a string', '"{}"', 'body'],
    ['deep nesting', '['.repeat(100_000), 'body'],
    ['too much', Buffer.alloc(MAX_MESSAGE_BYTES + 1, 0x20), 'body'],
    ['no type', { ...good(), messageType: undefined }, 'messageType'],
    ['no types', { ...good(), messageType: [] }, 'messageType'],
    [
      'a type that is no list',
      { ...good(), messageType: 'urn:message:Contracts:OrderCreatedEvent' },
      'messageType'
    ],
    ['a type that is no text', { ...good(), messageType: [{}] }, 'messageType'],
    [
      'a type of somebody else',
      { ...good(), messageType: ['urn:message:Contracts:Nonsense'] },
      'messageType'
    ],
    ['a type that every object has', { ...good(), messageType: ['constructor'] }, 'messageType'],
    ['no message id', { ...good(), messageId: undefined }, 'messageId'],
    ['null as message id', { ...good(), messageId: null }, 'messageId'],
    ['a message id that is no UUID', { ...good(), messageId: '1 or 1=1' }, 'messageId'],
    ['a number as message id', { ...good(), messageId: 7 }, 'messageId'],
    ['more before a UUID', { ...good(), messageId: `x${CAUSE_ID}` }, 'messageId'],
    ['a UUID and more', { ...good(), messageId: `${CAUSE_ID}\n` }, 'messageId'],
    ['a conversation id that is no UUID', { ...good(), conversationId: {} }, 'conversationId'],
    ['an initiator id that is no UUID', { ...good(), initiatorId: 'x' }, 'initiatorId'],
    ['headers that are a list', { ...good(), headers: [] }, 'headers'],
    ['headers that are a text', { ...good(), headers: 'x' }, 'headers'],
    ['no message', { ...good(), message: undefined }, 'message'],
    ['a message that is a list', { ...good(), message: [] }, 'message'],
    ['no correlation', { ...good(), message: { items: [] } }, 'message.orderId'],
    [
      'a correlation that is no UUID',
      { ...good(), message: { orderId: 'x', items: [] } },
      'message.orderId'
    ],
    [
      'a wrong number deep inside',
      { ...good(), message: { orderId: ORDER_ID, items: [{ quantity: 1 }, { quantity: 0.5 }] } },
      'message.items[1].quantity'
    ]
  ]
  for (const [name, payload, field] of cases) {
    const bytes =
      typeof payload === 'string' || Buffer.isBuffer(payload) ? payload : JSON.stringify(payload)
    const error = refusalOf(bytes)
    t.equal(error.field, field, name)
    t.ok(error.message.startsWith(`${field}: `), error.message.slice(0, 100))
  }
})

t.test('more fields and items than may be read are counted, and never parsed', async (t) => {
  const parse = t.capture(JSON, 'parse', JSON.parse)
  const base = JSON.stringify(good())
  /** A good envelope that holds so many fields and items more. */
  const withMore = (more: string) => base.replace('"headers":{}', `"headers":{${more}}`)
  const own = base.split(/[,[{]/).length - 1
  const fields = (count: number) =>
    Array.from({ length: count }, (_, index) => `"k${index}":"a,[{\\",{"`).join()
  const room = MAX_VALUES - own
  const costly: [name: string, payload: string][] = [
    ['fields', withMore(fields(room + 2))],
    ['numbers', withMore(`"list":[${'1,'.repeat(room)}1]`)],
    ['objects', withMore(`"list":[${'{},'.repeat(room / 2)}{}]`)],
    ['broken off', withMore(`"list":[${'[],'.repeat(room)}`).slice(0, -100)]
  ]
  for (const [name, payload] of costly) {
    t.equal(
      refusalOf(Buffer.from(payload)).message,
      `body: expected at most ${MAX_VALUES} fields and items`,
      name
    )
  }
  t.equal(parse().length, 0)
  // The first one has no comma.
  t.ok(reader.read(withMore(fields(room + 1))), 'as many as may be, and what is in texts is text')
})

t.test('a large order is no large message', async (t) => {
  const items = Array.from({ length: 10_000 }, () => ({ quantity: 1, productId: 'desk-lamp' }))
  const body = { orderId: ORDER_ID, items }
  t.same(reader.read(JSON.stringify({ ...good(), message: body })).body, body)
})

t.test('what the schema does not know is neither looked at nor copied', async (t) => {
  const bodies = new BodyReader(
    Type.Object({
      orderId: OrderId,
      note: Type.Optional(Type.String()),
      lines: Type.Optional(Type.Array(Type.Object({ id: OrderId }), { maxItems: 2 })),
      byName: Type.Optional(Type.Record(Type.String(), Type.Object({ id: OrderId })))
    })
  )
  const unknown = Object.defineProperty({ inside: { id: ORDER_ID.toUpperCase() } }, 'looked', {
    enumerable: true,
    get: () => t.fail('it was looked at')
  })
  const id = ORDER_ID.toUpperCase()
  const read = bodies.adapt({ orderId: id, unknown, note: null })
  t.match(read, { body: { orderId: ORDER_ID } })
  const { body } = read as { body: Record<string, unknown> }
  t.equal(body.unknown, unknown)
  t.notOk('note' in body)

  const line = { id: ORDER_ID, unknown }
  const lines = [line, { id }]
  const given = { orderId: ORDER_ID, lines, note: null }
  const adapted = bodies.adapt(given) as { body: { lines: { id: string }[] } }
  t.equal(adapted.body.lines[0], line, 'what needs no change is not copied')
  t.equal(adapted.body.lines[1]!.id, ORDER_ID)
  t.equal(given.note, null, 'what was given stays as it is')
  t.equal(lines[1]!.id, id)

  const tooMany = Array.from({ length: 3 }, () => ({ id: null }))
  t.match(
    bodies.adapt({ orderId: ORDER_ID, lines: tooMany }),
    { problem: { field: /^\.lines/ } },
    'a list that is too long is not adapted, and refused'
  )

  const byName = JSON.parse(`{"__proto__":{"id":"${id}"}}`) as object
  const record = bodies.adapt({ orderId: ORDER_ID, byName }) as { body: { byName: object } }
  t.same(Object.entries(record.body.byName), [['__proto__', { id: ORDER_ID }]])
  t.equal(Object.getPrototypeOf(record.body.byName), Object.prototype)
})

t.test('a well-formed message of an unknown type is told apart', async (t) => {
  t.ok(
    refusalOf(
      JSON.stringify({ ...good(), messageType: ['urn:message:Contracts:Nonsense'] })
    ) instanceof UnknownMessageType
  )
  t.notOk(refusalOf('{}') instanceof UnknownMessageType)
})

t.test('__proto__ and constructor are names like any other', async (t) => {
  const poison =
    '"__proto__": {"polluted": true, "messageId": "x"}, "constructor": {"prototype": {"polluted": true}}'
  const text = JSON.stringify({ ...good(), headers: { kind: 'test' } })
    .replace('{', `{${poison},`)
    .replace('"headers":{', `"headers":{${poison},`)
    .replace('"message":{', `"message":{${poison},`)
  t.equal(text.split('polluted').length - 1, 6, 'it is in all three places')
  const received = reader.read(text)
  t.equal(({} as Record<string, unknown>).polluted, undefined)
  t.equal(Object.getPrototypeOf(received), Object.prototype)
  t.equal(received.messageId, CAUSE_ID)
  const answer = message(ReleaseStock, { orderId: ORDER_ID }, received)
  t.same(Object.keys(answer.headers), [], 'nor does it travel on')

  const inherited = refusalOf(`{"__proto__": ${JSON.stringify(good())}}`)
  t.equal(inherited.field, 'envelope', 'no field is found on a prototype')
})

/** An envelope that is accepted. */
function good(): Record<string, unknown> {
  return {
    messageId: CAUSE_ID,
    conversationId: CONVERSATION_ID,
    messageType: [OrderCreatedEvent.urn],
    headers: {},
    message: { orderId: ORDER_ID, items: [{ quantity: 1 }] }
  }
}

function refusalOf(payload: string | Buffer): UnreadableMessage {
  try {
    reader.read(payload)
  } catch (error) {
    if (error instanceof UnreadableMessage) return error
    throw error
  }
  throw new Error(`It was accepted: ${payload.toString().slice(0, 200)}`)
}
