import { connect, type ChannelModel } from 'amqplib'
import type { Duplex } from 'node:stream'
import t from 'tap'
import { v7 as uuidv7 } from 'uuid'
import { EnvelopeWriter } from '../../src/messaging/message/envelope.ts'
import { topologyOf } from '../../src/messaging/transport/topology.ts'
import {
  DockShip,
  TestService,
  ship,
  ships,
  voyageOf,
  writes
} from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqBus } from '../../../../test/support/buses.ts'
import { until } from '../../../../test/support/until.ts'

const FLAG = { contentType: 0x8000, headers: 0x2000, messageId: 0x0080 }

/** Some can be decoded, and are too deep to be walked through in other ways. */
const DEPTHS = [2000, 3000, 4000, 5000, 6000, 8000, 12_000, 20_000]

/** A frame of AMQP 0-9-1. */
function frame(type: 1 | 2 | 3, ...parts: Buffer[]): Buffer {
  const payload = Buffer.concat(parts)
  return Buffer.concat([
    Buffer.from([type]),
    uint(16, 1),
    uint(32, payload.length),
    payload,
    Buffer.from([0xce])
  ])
}

function uint(bits: 16 | 32 | 64, value: number): Buffer {
  const bytes = Buffer.alloc(bits / 8)
  bytes.writeUIntBE(value, Math.max(0, bytes.length - 6), Math.min(6, bytes.length))
  return bytes
}

function shortString(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text as string)
  return Buffer.concat([Buffer.from([bytes.length]), bytes])
}

/** Tables in tables: six bytes a level. */
function deepTable(levels: number): Buffer {
  const bytes = Buffer.alloc(levels * 6)
  for (let level = 0; level < levels; level++) {
    bytes.write('F', level * 6 + 1)
    bytes.writeUInt32BE(bytes.length - (level + 1) * 6, level * 6 + 2)
  }
  return Buffer.concat([uint(32, bytes.length), bytes])
}

/** What no client would write, to a queue by its name. */
function publishRaw(
  connection: ChannelModel,
  queue: string,
  payload: string,
  flags: number,
  ...properties: Buffer[]
): void {
  const { stream } = connection.connection as unknown as { stream: Duplex }
  stream.write(
    Buffer.concat([
      frame(
        1,
        uint(16, 60),
        uint(16, 40),
        uint(16, 0),
        shortString(''),
        shortString(queue),
        Buffer.from([0])
      ),
      frame(
        2,
        uint(16, 60),
        uint(16, 0),
        uint(64, Buffer.byteLength(payload)),
        uint(16, flags),
        ...properties
      ),
      frame(3, Buffer.from(payload))
    ])
  )
}

t.test('properties that no client can read or write again stop nothing', async (t) => {
  const bus = await rabbitmqBus(t)
  const service = await TestService.open(
    await (await postgresForTests()).createDatabase(t.name),
    bus.connect(topologyOf([{ name: 'harbour', consumes: [DockShip] }], [DockShip]))
  )
  t.teardown(() => service.stop())
  const [unlucky, alsoUnlucky] = [ship(DockShip), ship(DockShip)]
  service.listen('harbour', [
    {
      ...writes('harbour', DockShip, {
        async then(messages) {
          if (
            messages.some((message) =>
              [unlucky, alsoUnlucky].map(voyageOf).includes(voyageOf(message))
            )
          )
            throw new Error('on the rocks')
        }
      }),
      retry: { immediate: { times: 1, minMs: 1, maxMs: 1 }, redeliverySeconds: [0.01, 0.01] }
    }
  ])
  service.relay.start()
  await until('messages can be sent', async () => service.transport.canPublish)
  const connection = await connect(bus.url!)
  t.teardown(() => connection.close())
  await connection.createChannel()

  const envelope = (message = ship(DockShip)) =>
    new EnvelopeWriter('test://localhost/', 'port').write(message)
  const noise = shortString(Buffer.alloc(200, 0xff))
  publishRaw(connection, 'harbour', 'type of noise', FLAG.contentType, noise)
  publishRaw(connection, 'harbour', 'id of noise', FLAG.messageId, noise)
  for (const levels of DEPTHS)
    publishRaw(connection, 'harbour', `deep ${levels}`, FLAG.headers, deepTable(levels))
  publishRaw(connection, 'harbour', envelope(), FLAG.headers, deepTable(20_000))
  publishRaw(connection, 'harbour_error', 'deep letter', FLAG.headers, deepTable(20_000))
  await service.transport.publish({
    messageId: uuidv7(),
    destination: 'harbour',
    required: true,
    payload: envelope(unlucky),
    headers: { note: '€'.repeat(21_800) }
  })
  const named = Buffer.concat([noise, Buffer.from('t'), Buffer.from([1])])
  publishRaw(
    connection,
    'harbour',
    envelope(alsoUnlucky),
    FLAG.headers,
    uint(32, named.length),
    named
  )
  const good = ships(DockShip, 3)
  await service.send(...good)

  const letters = async () =>
    (
      await service.database.rows<{ text: string }>(
        `select convert_from(payload, 'UTF8') as text from dead_letter`
      )
    ).map(({ text }) => text)
  await until(
    'each is buried or handled',
    async () =>
      (await letters()).length >= DEPTHS.length + 5 && (await service.count('effects')) >= 4
  )
  for (const queue of ['harbour', 'harbour_error', 'harbour_skipped'])
    await until(`${queue} is empty`, async () => (await bus.kept(queue)) === 0)
  await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
  const [envelopes, others] = [
    (await letters()).filter((text) => text.startsWith('{')),
    (await letters()).filter((text) => !text.startsWith('{'))
  ]
  t.same(
    others.toSorted(),
    [
      ...DEPTHS.map((levels) => `deep ${levels}`),
      'deep letter',
      'id of noise',
      'type of noise'
    ].toSorted()
  )
  t.same(
    envelopes.map((text): string => JSON.parse(text).message.voyageId).toSorted(),
    [unlucky, alsoUnlucky].map(voyageOf).toSorted()
  )
  t.equal(
    await service.count('effects'),
    4,
    'an envelope that can be read is handled without its headers'
  )
  t.equal(service.transport.problem(), undefined)
})
