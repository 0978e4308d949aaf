import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import t from 'tap'
import { v7 as uuidv7 } from 'uuid'
import { RabbitTransport } from '../../src/messaging/rabbitmq/transport.ts'
import { AMQPLIB_PATCHES, FRAMES } from '../../src/quick-ways.ts'
import { topology } from '../../../../test/support/harbour.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { toldOfWays } from '../../../../test/support/quick-ways.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'

const require = createRequire(import.meta.url)
const amqplib = dirname(require.resolve('amqplib'))

/** A class of amqplib's, which it does not export. */
function prototypeOf(file: string, name: string): Record<string, (...all: never[]) => unknown> {
  const found = require(join(amqplib, 'lib', file)) as Record<string, { prototype: never }>
  return found[name]!.prototype
}

t.test('where amqplib is not as expected, it publishes and writes by itself', async (t) => {
  const [connection, mux] = [
    prototypeOf('connection.js', 'Connection'),
    prototypeOf('mux.js', 'Mux')
  ]
  const { sendMessage } = connection
  const { _readIncoming: readIncoming, _scheduleRead: scheduleRead } = mux
  t.teardown(() => {
    Object.assign(connection, { sendMessage })
    Object.assign(mux, { _scheduleRead: scheduleRead })
  })
  // Another version, with a property more in each message and another name inside. Not by
  // t.intercept, with which a connection that closes would change all.
  connection['sendMessage'] = function (this: never, ...all) {
    const [channel, method, fields, id, properties, content] = all
    const stamped = { ...(properties as unknown as object), timestamp: 1 } as never
    return sendMessage!.call(this, channel!, method!, fields!, id!, stamped, content!)
  }
  mux['_scheduleRead'] = function (this: never) {
    setImmediate(() => readIncoming!.call(this))
  }
  const log = keptLog()
  const broker = await rabbitmqForTests()
  const url = await broker.createVhost()
  t.teardown(() => broker.deleteVhost(url))
  const transports = ['one', 'two'].map(
    (clientName) => new RabbitTransport({ url, topology, clientName, log })
  )
  const [sender, receiver] = transports as [RabbitTransport, RabbitTransport]
  t.teardown(() => Promise.all(transports.map((transport) => transport.stop())))
  for (const transport of transports) transport.start(() => {})
  await until('messages can be sent', async () =>
    transports.every((transport) => transport.canPublish)
  )
  t.match(
    toldOfWays(log),
    [
      { way: 'frames', library: 'amqplib', reason: 'it publishes other bytes' },
      { way: 'amqplib-patches', library: 'amqplib', reason: /are not one write/ }
    ],
    'one line each, whoever connects'
  )
  t.equal(toldOfWays(log).length, 2)
  t.notOk(FRAMES.isOpen || AMQPLIB_PATCHES.isOpen)

  const came: string[] = []
  const { cancel } = receiver.subscribe('harbour', ({ messageId, ack }) => {
    came.push(String(messageId))
    ack()
  })
  const ids = Array.from({ length: 5 }, () => uuidv7())
  const outcomes = await Promise.all(
    ids.map((messageId) =>
      sender.publish({ messageId, destination: 'harbour', required: true, payload: '{}' })
    )
  )
  t.same(
    outcomes,
    ids.map(() => 'accepted')
  )
  await until('all have come', async () => came.length === ids.length)
  t.same(came, ids)
  await cancel()
})
