// What .NET writes in other words than ours, byte for byte as MassTransit 8.5 does.
import Type from 'typebox'
import t from 'tap'
import { Type as Types } from '../../src/index.ts'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { EnvelopeReader, EnvelopeWriter } from '../../src/messaging/message/envelope.ts'
import { priced } from '../../../../docs/examples/net-values.ts'
import { checkSaga } from '../../src/saga/inspect/check.ts'
import { defineSaga } from '../../src/saga/steps/define-saga.ts'
import { tell } from '../../src/testing/story.ts'
import { InvalidMessage } from '../../src/messaging/message/validate.ts'

const Status = { Pending: 0, Paid: 5 } as const
const shop = contracts('shop', { correlateBy: 'orderId' })
const Priced = shop.event('Priced', {
  orderId: Type.String({ format: 'uuid' }),
  price: Types.Optional(Types.Decimal()),
  status: Types.Optional(Types.NetEnum(Status)),
  big: Type.Optional(Type.Integer()),
  at: Type.Optional(Type.String({ format: 'date-time' })),
  note: Type.Optional(Type.String()),
  lines: Type.Optional(
    Type.Array(Type.Object({ productId: Type.String(), price: Types.Decimal() }))
  )
})
const ID = '01963f2a-7c00-7000-8000-000000000001'
const reader = new EnvelopeReader([Priced])

function read(message: object | string, more: object = {}) {
  const envelope = {
    messageId: ID,
    messageType: ['urn:message:Contracts:Priced'],
    message: '@',
    ...more
  }
  const text = typeof message === 'string' ? message : JSON.stringify(message)
  return reader.read(JSON.stringify(envelope).replace('"@"', () => text))
}
const bodyOf = (message: object | string) => read(message).body

t.test('Type has all that TypeBox has', async (t) => {
  t.same(
    Object.keys(Type).filter((name) => !(name in Types)),
    []
  )
})

t.test('a decimal is text, kept to the last zero, or a number', async (t) => {
  for (const [written, expected] of [
    ['"19.90"', '19.90'],
    ['"-0.000000000000000000000000001"', '-0.000000000000000000000000001'],
    ['"79228162514264337593543950335"', '79228162514264337593543950335'],
    ['19.9', '19.9'],
    ['19', '19'],
    ['-0.05', '-0.05'],
    ['123456789012345', '123456789012345']
  ] as const)
    t.same(bodyOf(`{"orderId":"${ID}","price":${written}}`), { orderId: ID, price: expected })
  t.same(bodyOf(`{"orderId":"${ID}","lines":[{"productId":"a","price":1.5}]}`).lines, [
    { productId: 'a', price: '1.5' }
  ])
  t.same(bodyOf(`{"orderId":"${ID}","price":null}`), { orderId: ID })
})

t.test('what is no decimal is refused with its path', async (t) => {
  const must = 'must be a decimal as text, such as "19.90"'
  for (const [written, expected] of [
    ['"19,90"', `message.price: ${must}`],
    ['"1e3"', `message.price: ${must}`],
    ['""', `message.price: ${must}`],
    ['" 1"', `message.price: ${must}`],
    [`"${'1'.repeat(41)}"`, `message.price: ${must}`],
    ['1e21', `message.price: ${must}: 1e+21 may have been rounded`],
    ['1234567890123456.78', `message.price: ${must}: 1234567890123456.8 may have been rounded`],
    ['true', 'message.price: must be string']
  ] as const)
    t.throws(() => bodyOf(`{"orderId":"${ID}","price":${written}}`), { message: expected }, written)
  t.throws(() => bodyOf(`{"orderId":"${ID}","lines":[{"productId":"a","price":"x"}]}`), {
    message: `message.lines[0].price: ${must}`
  })
  t.throws(
    () => Priced({ orderId: ID, price: '1,5' }),
    new InvalidMessage(`Priced cannot be sent: price ${must}, got "1,5"`)
  )
})

t.test('a decimal is written as text, an enum as its number', async (t) => {
  const sent = Priced({ orderId: ID, price: '19.90', status: Status.Paid })
  const written = new EnvelopeWriter('rabbitmq://localhost/', 'shop').write(sent)
  t.match(written, '"price":"19.90","status":5')
  t.same(reader.read(written).body, { orderId: ID, price: '19.90', status: 5 })
})

t.test('an enum is read by number and by name, in any case', async (t) => {
  for (const status of [5, 'Paid', 'paid'])
    t.equal(bodyOf({ orderId: ID, status }).status, Status.Paid)
  for (const status of [3, 'Lost', '5', true])
    t.throws(() => bodyOf({ orderId: ID, status }), {
      message: 'message.status: must be one of 0, 5'
    })
  t.throws(() => Priced({ orderId: ID, status: 1 as never }), /status must be one of 0, 5, got 1/)
})

t.test('a whole number that JSON rounds is refused with its path', async (t) => {
  t.equal(bodyOf(`{"orderId":"${ID}","big":9007199254740991}`).big, Number.MAX_SAFE_INTEGER)
  for (const big of ['9007199254740993', '-9007199254740993', '9223372036854775807', '1e300'])
    t.throws(() => bodyOf(`{"orderId":"${ID}","big":${big}}`), {
      message: /^message.big: must be a whole number that JSON keeps, .* send them as text$/
    })
  t.throws(() => Priced({ orderId: ID, big: 2 ** 53 }), /big must be a whole number .* got 9007/)
})

t.test('a saga in steps keeps a decimal to the last zero, over its row, too', async (t) => {
  const charge = shop.command('Charge', {
    orderId: Type.String({ format: 'uuid' }),
    price: Types.Decimal(),
    status: Types.NetEnum(Status)
  })
  const Started = shop.event('Started', charge.schema.properties)
  const Charged = shop.event('Charged', { orderId: Type.String({ format: 'uuid' }) })
  const Look = shop.command('Look', { orderId: Type.String({ format: 'uuid' }) })
  const Looked = shop.event('Looked', { orderId: Type.String({ format: 'uuid' }) })
  const saga = defineSaga('charging', {
    startedBy: Started,
    within: '1m',
    steps: ({ step }) => [
      step('look', { do: Look, done: Looked }),
      step('charge', { do: charge, done: Charged })
    ]
  })
  const started = new EnvelopeReader([Started]).read(
    `{"messageId":"${ID}","messageType":["${Started.urn}"],"message":{"OrderId":"${ID}","Price":"19.90","Status":"paid"}}`
  ) as ReturnType<typeof Started>
  tell(saga)
    .given(started)
    .when(Looked({ orderId: ID }))
    .then('doing.charge', [charge({ orderId: ID, price: '19.90', status: 5 })])
    .when(Charged({ orderId: ID }))
    .then('completed')
  t.same(checkSaga(saga), [])
})

t.test('the example of the page is what .NET reads', async (t) => {
  const written = new EnvelopeWriter('rabbitmq://localhost/', 'sales').write(priced)
  t.match(JSON.parse(written), {
    messageType: ['urn:message:Contracts:OrderPriced', 'urn:message:Contracts:OrderChanged'],
    message: { price: '19.90', status: 1 }
  })
})

t.test('times are read with seven digits, offsets, or no zone; ours have three', async (t) => {
  for (const at of ['2026-11-28T15:29:04.1753361Z', '2026-11-28T17:29:04.1753619+02:00'])
    t.equal(bodyOf({ orderId: ID, at }).at, at, 'as it came')
  t.equal(bodyOf({ orderId: ID, at: '2026-01-02T03:04:05' }).at, '2026-01-02T03:04:05Z')
  t.throws(() => bodyOf({ orderId: ID, at: 'tomorrow' }), { message: /^message.at: must/ })
  const written = JSON.parse(
    new EnvelopeWriter('rabbitmq://localhost/', 'shop').write(Priced({ orderId: ID }))
  )
  t.match(written.sentTime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
})

t.test('a name in another case is read where the one in camelCase is absent', async (t) => {
  t.same(bodyOf({ OrderId: ID.toUpperCase(), Price: 2, LINES: [{ ProductID: 'a', PRICE: '1' }] }), {
    orderId: ID,
    price: '2',
    lines: [{ productId: 'a', price: '1' }]
  })
  t.same(
    bodyOf({ OrderId: 'not a UUID', orderId: ID.toUpperCase(), NOTE: 'first', Note: 'second' }),
    { OrderId: 'not a UUID', orderId: ID, note: 'first', Note: 'second' },
    'the very name comes first, then the first of the others'
  )
  t.throws(() => bodyOf({ ORDERID: 5 }), { message: /^message.orderId: must be string/ })
  const proto = bodyOf(`{"OrderId":"${ID}","__PROTO__":1,"Constructor":2}`)
  t.same(Object.keys(proto), ['orderId', '__PROTO__', 'Constructor'])
})

t.test('ids are read in each format of .NET, and kept in lower case', async (t) => {
  const upper = ID.toUpperCase()
  for (const orderId of [upper, `{${upper}}`, `(${ID})`, ID.replaceAll('-', '')])
    t.same(bodyOf({ orderId }), { orderId: ID })
})

t.test('of several types the first that is known counts', async (t) => {
  const messageType = ['urn:message:Shop:Special', 'urn:message:Contracts:Priced', 'urn:message:x']
  t.equal(read({ orderId: ID }, { messageType }).contract, Priced)
})

t.test('what cannot be read says what it is, and what to do', async (t) => {
  t.throws(() => reader.read('{"orderId":"1","price":2}', 'application/json'), {
    message:
      /^envelope: is missing: expected MassTransit's, .* got the fields orderId, price; to take JSON without one, declare its contract by foreign\(\)$/
  })
  t.throws(() => reader.read('{}'), { message: /got no fields/ })
  for (const type of ['application/vnd.masstransit+bson', 'application/vnd.masstransit+aes'])
    t.throws(() => reader.read('{}', type), {
      message: `contentType: expected application/vnd.masstransit+json, got ${type}`
    })
})
