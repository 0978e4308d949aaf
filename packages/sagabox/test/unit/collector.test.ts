import t from 'tap'
import { deadLetterHeaders } from '../../src/messaging/dead-letters/headers.ts'
import { DeadLetterCollector } from '../../src/messaging/dead-letters/collector.ts'
import { EnvelopeReader, UnreadableMessage } from '../../src/messaging/message/envelope.ts'
import type { Delivery, Headers } from '../../src/messaging/transport/transport.ts'

t.test('what the endpoint could not read is not read again', async (t) => {
  const reader = new EnvelopeReader([])
  const glances = t.capture(reader, 'glance', () => undefined)
  const receivers: ((delivery: Delivery) => void)[] = []
  const collector = new DeadLetterCollector('harbour', reader, {
    transport: { subscribe: (_queue: string, receive: never) => receivers.push(receive) } as never,
    outbox: { transaction: () => new Promise(() => {}) } as never,
    log: {} as never
  })
  collector.start()
  const receive = (headers: Headers) =>
    receivers[0]!({
      payload: '{}',
      contentType: undefined,
      messageId: undefined,
      headers,
      redeliveries: 0,
      ack: () => {},
      requeue: () => {}
    })
  const failed = (error: Error) => deadLetterHeaders({}, 'fault', '', undefined, error, [])
  receive(failed(new UnreadableMessage('body', 'expected less')))
  t.equal(glances().length, 0)
  receive(failed(new Error('a handler threw')))
  receive({})
  t.equal(glances().length, 2, 'of others somebody may want to hear')
})
