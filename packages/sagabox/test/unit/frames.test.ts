import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import t from 'tap'
import { framesOf, startOf } from '../../src/messaging/rabbitmq/frames.ts'

const require = createRequire(import.meta.url)
const amqplib = dirname(require.resolve('amqplib'))
// What encodes amqplib's own messages, which it does not export.
const { BasicPublish, BasicProperties, encodeMethod, encodeProperties } = require(
  join(amqplib, 'lib/defs.js')
) as {
  BasicPublish: number
  BasicProperties: number
  encodeMethod(method: number, channel: number, fields: object): Buffer
  encodeProperties(id: number, channel: number, bodyBytes: number, fields: object): Buffer
}
const { makeBodyFrame } = require(join(amqplib, 'lib/frame.js')) as {
  makeBodyFrame(channel: number, body: Buffer): Buffer
}

interface Message {
  exchange: string
  mandatory: boolean
  messageId: string
  payload: string | Buffer
}

function ours(channel: number, messages: readonly Message[]): Buffer {
  return framesOf(
    channel,
    messages.map(({ exchange, mandatory, messageId, payload }) => ({
      messageId,
      payload,
      bodyBytes: Buffer.byteLength(payload),
      start: startOf(channel, exchange, mandatory)
    }))
  )
}

function amqplibs(channel: number, { exchange, mandatory, messageId, payload }: Message): Buffer {
  const body = Buffer.from(payload as string)
  const fields = { ticket: 0, exchange, routingKey: '', mandatory, immediate: false }
  const properties = {
    contentType: 'application/vnd.masstransit+json',
    headers: {},
    deliveryMode: 2,
    messageId
  }
  return Buffer.concat([
    encodeMethod(BasicPublish, channel, fields),
    encodeProperties(BasicProperties, channel, body.length, properties),
    makeBodyFrame(channel, body)
  ])
}

t.test('messages are framed as amqplib frames them', (t) => {
  const ids = ['01890000-0000-7000-8000-000000000000', 'ffffffff-ffff-4fff-bfff-ffffffffffff']
  const payloads = ['{}', '{"name":"Zoë €𝄞"}', 'x'.repeat(70_000), Buffer.from([0, 255, 206])]
  const messages = ['order', 'Zoë:€', 'e'.repeat(255)].flatMap((exchange) =>
    [true, false].flatMap((mandatory) =>
      ids.flatMap((messageId) =>
        payloads.map((payload) => ({ exchange, mandatory, messageId, payload }))
      )
    )
  )
  for (const channel of [1, 257, 65_535]) {
    for (const message of messages)
      t.ok(ours(channel, [message]).equals(amqplibs(channel, message)), message.exchange)
    t.ok(
      ours(channel, messages).equals(Buffer.concat(messages.map((one) => amqplibs(channel, one)))),
      'many as one piece'
    )
  }
  t.same(ours(1, []), Buffer.alloc(0))
  t.end()
})
