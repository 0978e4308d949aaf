// What MassTransit put on the wire, recorded by `npm run interop:record`, read without .NET.
import { readdirSync, readFileSync } from 'node:fs'
import { contracts, faultOf, Type } from 'sagabox'
import t from 'tap'
import { EnvelopeReader, UnreadableMessage } from '../../src/messaging/message/envelope.ts'
import {
  OrderCreatedEvent,
  OrderCompletedEvent,
  OrderFailedEvent
} from '../../../../src/contracts/order.ts'
import {
  PaymentCompletedEvent,
  PaymentFailedEvent,
  PaymentRefundedEvent,
  RefundPayment
} from '../../../../src/contracts/payment.ts'
import {
  ReleaseStock,
  StockNotReservedEvent,
  StockReleasedEvent,
  StockReservedEvent
} from '../../../../src/contracts/stock.ts'

const FOLDER = new URL('../fixtures/masstransit/', import.meta.url)
const parcels = contracts('parcels', { correlateBy: 'parcelId', namespace: 'Acme.Parcels' })
const Id = Type.String({ format: 'uuid' })
const Fee = parcels.response('Fee', { cents: Type.Integer() })
const reader = new EnvelopeReader([
  OrderCreatedEvent,
  OrderCompletedEvent,
  OrderFailedEvent,
  StockReservedEvent,
  StockNotReservedEvent,
  StockReleasedEvent,
  ReleaseStock,
  PaymentCompletedEvent,
  PaymentFailedEvent,
  PaymentRefundedEvent,
  RefundPayment,
  faultOf(OrderCreatedEvent),
  parcels.event('ParcelRequested', { parcelId: Id, address: Type.String() }),
  parcels.event(
    'CourierBooked',
    { parcelId: Id, price: Type.String() },
    { urn: 'urn:message:courier-booked', exchange: 'courier-booked' }
  ),
  parcels.request('GetFee', { plan: Type.String() }, Fee),
  Fee
])
/** No contract of ours: MassTransit's own scheduler takes it, and one that nobody knows. */
const UNKNOWN = ['default-scheduler', 'default-recorder_skipped']
/** What is not said is null to MassTransit, and absent here. */
const ABSENT: Record<string, string> = {
  OrderCreatedEvent: 'expectedTotal',
  recorder_error: 'expectedTotal',
  StockNotReservedEvent: 'productId',
  PaymentRefundedEvent: 'reason'
}

interface Recorded {
  properties: { contentType: string; headers: Record<string, unknown> }
  body: { messageId: string; conversationId?: string | null; message: Record<string, unknown> }
}

const names = readdirSync(FOLDER).map((file) => file.replace('.json', ''))

for (const name of names.filter((each) => each.startsWith('default-')))
  t.test(name, async (t) => {
    const { body, properties } = recorded(name)
    t.equal(properties.contentType, 'application/vnd.masstransit+json')
    const read = () => reader.read(JSON.stringify(body), properties.contentType)
    if (UNKNOWN.includes(name)) return t.throws(read, { name: 'UnknownMessageType' })
    const message = read()
    t.equal(message.messageId, body.messageId)
    if (body.conversationId) t.equal(message.conversationId, body.conversationId)
    const kind = name.replace('default-', '')
    if (kind.startsWith('Fault'))
      return t.match(message.body, {
        faultedMessageId: body.message['faultedMessageId'],
        exceptions: [{ message: 'Out of paper: the printer is empty' }]
      })
    const expected = { ...body.message }
    if (ABSENT[kind] !== undefined) {
      t.equal(expected[ABSENT[kind]], null)
      delete expected[ABSENT[kind]]
    }
    t.strictSame(message.body, expected)
  })

t.test('without an envelope it is refused with a reason', async (t) => {
  const raw = names.filter((each) => each.startsWith('raw-') && each !== 'raw-recorder_skipped')
  t.ok(raw.length > 10)
  for (const name of raw) {
    const { body, properties } = recorded(name)
    t.throws(
      () => reader.read(JSON.stringify(body), properties.contentType),
      UnreadableMessage,
      name
    )
  }
})

t.test('a recorded dead letter says what went wrong', async (t) => {
  t.match(recorded('default-recorder_error').properties.headers, {
    'MT-Reason': 'fault',
    'MT-Fault-Message': 'Out of paper: the printer is empty',
    'MT-Fault-MessageType': 'Contracts.OrderCreatedEvent'
  })
  t.match(recorded('default-recorder_skipped').properties.headers, { 'MT-Reason': 'dead-letter' })
})

function recorded(name: string): Recorded {
  return JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), 'utf8'))
}
