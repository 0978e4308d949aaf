// Failures across the border, with the bytes and headers of MassTransit 8.5.
import Type from 'typebox'
import t from 'tap'
import { createMachine } from 'xstate'
import {
  causeIn,
  deadLetterHeaders,
  redeliveriesIn,
  replayHeaders
} from '../../src/messaging/dead-letters/headers.ts'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { EnvelopeReader, EnvelopeWriter } from '../../src/messaging/message/envelope.ts'
import { REDELIVERIES, withHeader } from '../../src/messaging/message/envelope-header.ts'
import { faultMessage, faultOf } from '../../src/messaging/message/fault.ts'
import { faultHandler } from '../../src/saga/run/faults.ts'

const ID = '01963f2a-7c00-7000-8000-000000000001'
const shop = contracts('shop', { correlateBy: 'orderId' })
const Placed = shop.event('Placed', {
  orderId: Type.String({ format: 'uuid' }),
  note: Type.Optional(Type.String())
})
const ship = contracts('ship', { correlateBy: 'orderId', namespace: 'Shipping' })
const Ship = ship.command('Ship', { orderId: Type.String({ format: 'uuid' }) })

/** As MassTransit writes a fault: null for what it does not know. */
const faultOfPlaced = (more: object = {}) => ({
  messageId: ID,
  requestId: null,
  correlationId: null,
  conversationId: ID,
  faultAddress: null,
  messageType: [
    'urn:message:MassTransit:Fault[[Contracts:Placed]]',
    'urn:message:MassTransit:Fault'
  ],
  message: {
    faultId: ID,
    faultedMessageId: null,
    timestamp: '2026-11-28T15:29:39.3169588Z',
    exceptions: [
      {
        exceptionType: 'System.InvalidOperationException',
        innerException: null,
        stackTrace: '   at Shop.Consume()',
        message: 'boom: it broke',
        source: null,
        data: null
      }
    ],
    host: {
      machineName: 'web-1',
      processName: 'Shop',
      processId: 14905,
      assembly: 'Shop',
      assemblyVersion: '1.0.0.0',
      frameworkVersion: '10.0.12',
      massTransitVersion: '8.5.12.0',
      operatingSystemVersion: 'Unix 6.18'
    },
    faultMessageTypes: ['urn:message:Contracts:Placed'],
    message: { orderId: ID.toUpperCase(), note: null },
    ...more
  },
  headers: { 'MT-Fault-Message': null }
})

t.test('a fault of .NET shows as the last error, with exception, message and host', async (t) => {
  const reader = new EnvelopeReader([faultOf(Placed)])
  const faults: unknown[] = []
  const host = {
    definition: { startedBy: Placed, machine: createMachine({}) },
    recordFaults: async (_tx: unknown, recorded: unknown[]) => void faults.push(...recorded)
  }
  const handler = faultHandler(host as never)
  const nothing = { host: null, exceptions: [], faultMessageTypes: null }
  for (const fault of [faultOfPlaced(), faultOfPlaced(nothing)])
    await handler.handle([reader.read(JSON.stringify(fault))], {} as never)
  t.same(faults, [
    {
      sagaId: ID,
      at: '2026-11-28T15:29:39.3169588Z',
      type: 'Placed',
      message: 'Fault<Placed>: System.InvalidOperationException: boom: it broke (Shop on web-1)'
    },
    {
      sagaId: ID,
      at: '2026-11-28T15:29:39.3169588Z',
      type: 'Placed',
      message: 'Fault<Placed>: it failed'
    }
  ])
})

t.test('a fault of ours has what a consumer of Fault<T> reads', async (t) => {
  const fault = faultMessage(Ship({ orderId: ID }), { type: 'Error', text: 'too heavy' })
  const envelope = JSON.parse(new EnvelopeWriter('rabbitmq://localhost/', 'ship').write(fault))
  t.same(envelope.messageType, [
    'urn:message:MassTransit:Fault[[Shipping:Ship]]',
    'urn:message:MassTransit:Fault'
  ])
  t.equal(fault.contract.exchange, 'MassTransit:Fault--Shipping:Ship--')
  t.match(envelope.message, {
    faultId: /^[\da-f-]{36}$/,
    exceptions: [{ exceptionType: 'Error', message: 'too heavy', stackTrace: '' }],
    host: { machineName: /./, processId: process.pid },
    faultMessageTypes: ['urn:message:Shipping:Ship'],
    message: { orderId: ID }
  })
})

t.test('a dead letter has the headers of MassTransit, and their types', async (t) => {
  const attempt = { at: '2026-11-28T15:29:39.316Z', error: 'Error: x' }
  const once = deadLetterHeaders({}, 'fault', 'rabbitmq://h/q', 'urn', new Error('x'), [attempt])
  t.notOk('MT-Fault-RetryCount' in once)
  t.notOk('MT-Fault-RedeliveryCount' in once)
  const host = Object.entries(once).filter(([name]) => name.startsWith('MT-Host-'))
  t.same(
    host.map(([name]) => name.slice('MT-Host-'.length)),
    [
      'MachineName',
      'ProcessName',
      'ProcessId',
      'Assembly',
      'AssemblyVersion',
      'MassTransitVersion',
      'FrameworkVersion',
      'OperatingSystemVersion'
    ]
  )
  t.ok(host.every(([, value]) => typeof value === 'string'))
  const often = deadLetterHeaders(
    { 'MT-Redelivery-Count': '2' },
    'fault',
    '',
    undefined,
    new Error('x'),
    [attempt, attempt]
  )
  t.match(often, { 'MT-Fault-RetryCount': 1, 'MT-Fault-RedeliveryCount': 2 })
})

t.test('what .NET skipped says who skipped it', async (t) => {
  const skipped = {
    'MT-Reason': 'dead-letter',
    'MT-Host-MachineName': 'web-1',
    'MT-Host-ProcessName': 'Shop',
    'MT-Host-ProcessId': '14905'
  }
  t.same(causeIn(skipped), {
    exception: 'UnknownMessageType',
    reason: 'skipped by Shop on web-1: it has no consumer of this type',
    stack: undefined
  })
  t.match(causeIn({ 'MT-Reason': 'dead-letter' }), { reason: /^skipped by a service: / })
  t.match(causeIn({ 'MT-Reason': 'fault' }), { exception: 'Unknown' })
  t.same(replayHeaders('7', skipped), { 'sagabox-replayed': '7' }, 'and is sent back without')
})

t.test('the envelope tells how often it was put off', async (t) => {
  t.equal(redeliveriesIn({}, { [REDELIVERIES]: 2 }), 2)
  t.equal(redeliveriesIn({ [REDELIVERIES]: '1' }, { [REDELIVERIES]: 2 }), 1, 'beside it first')
  t.equal(redeliveriesIn({ 'sagabox-replayed': '7' }, { [REDELIVERIES]: 2 }), 0)
  t.equal(redeliveriesIn({}, { [REDELIVERIES]: -2 }), 0)
})

t.test('a header is put into an envelope, and no other byte changes', async (t) => {
  const put = (text: string) => withHeader(text, REDELIVERIES, 3)
  const body = '{"big":9007199254740993,"n":1.0,"headers":{"no":1},"t":"\\"headers\\":{"}'
  t.equal(
    put(`{"message":${body},"headers":{},"host":{}}`),
    `{"message":${body},"headers":{"${REDELIVERIES}":3},"host":{}}`
  )
  t.equal(
    put(`{ "headers" :\n {"a":"}{", "${REDELIVERIES}":"2"} , "message": ${body} }`),
    `{ "headers" :\n {"a":"}{","${REDELIVERIES}":3} , "message": ${body} }`
  )
  for (const without of [`{"message":${body}}`, '{"headers":null}', '[{"headers":{}}]', '', '{"'])
    t.equal(put(without), without)
})
