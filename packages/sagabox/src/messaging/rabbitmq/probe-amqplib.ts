import type { ConfirmChannel, Connection } from 'amqplib/callback_api.js'
import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import { AMQPLIB_PATCHES, FRAMES } from '../../quick-ways.ts'
import { packWrites, surviveProperties } from './amqplib-patches.ts'
import { RabbitPublisher } from './publisher.ts'

/** Turns of the event loop until what was published is written; amqplib takes two. */
const MOST_TURNS = 10

const PARCEL = {
  messageId: '01890000-0000-7000-8000-000000000000',
  destination: 'probe é',
  payload: '{"probe":"é"}'
}

let probing: Promise<void> | undefined

/**
 * Looks, once in a process, whether amqplib still does what the quick ways need. It is done on a
 * second connection of the same class that leads nowhere.
 */
export function probeAmqplib(connection: Connection): Promise<void> {
  probing ??= probe(connection)
  return probing
}

async function probe(connection: Connection): Promise<void> {
  for (const [way, look] of [
    [FRAMES, probeFrames],
    [AMQPLIB_PATCHES, probePatches]
  ] as const) {
    try {
      await look(new Twin(connection))
    } catch (error) {
      way.close(error)
    }
  }
}

/**
 * The publisher's frames are, byte for byte, what amqplib writes for the same message, and are
 * confirmed with amqplib's own.
 * @throws what is not as expected
 */
async function probeFrames(twin: Twin): Promise<void> {
  const channel = await twin.openChannel()
  const confirmed: string[] = []
  for (const required of [true, false]) {
    const written: Buffer[] = []
    for (const isQuick of [false, true])
      written.push(
        await twin.writtenBy(() =>
          new RabbitPublisher(channel, isQuick).publish({ ...PARCEL, required }, (error) =>
            confirmed.push(error ? error.message : `${required} ${isQuick}`)
          )
        )
      )
    const [plain, quick] = written as [Buffer, Buffer]
    assert.ok(plain.length > 0 && quick.equals(plain), 'it publishes other bytes')
  }
  channel.emit('ack', { deliveryTag: 4, multiple: true })
  assert.deepEqual(
    confirmed,
    ['true false', 'true true', 'false false', 'false true'],
    'a confirm is not told to whom it belongs'
  )
}

/**
 * Two messages of one turn are one write, and a header with properties that cannot be decoded comes
 * without them.
 * @throws what is not as expected
 */
async function probePatches(twin: Twin): Promise<void> {
  packWrites(twin.connection)
  surviveProperties(twin.connection)
  const channel = await twin.openChannel()
  const before = twin.writes
  await twin.writtenBy(() => {
    channel.publish('one', '', Buffer.from('1'), {}, () => {})
    channel.publish('two', '', Buffer.from('2'), {}, () => {})
  })
  assert.equal(twin.writes - before, 1, 'two messages of one turn are not one write')

  // A header with a table whose last number is not there, and a body.
  twin.stream.push(Buffer.from('02000100000015003c00000000000000000001200000000003016149ce', 'hex'))
  twin.stream.push(Buffer.from('0300010000000178ce', 'hex'))
  const [header, body] = [twin.receive(), twin.receive()] as [Received, Received]
  assert.deepEqual(
    [header.id, header.size, header.fields['headers'], String(body.content)],
    [60, 1, undefined, 'x'],
    'properties that cannot be decoded are not left out'
  )
}

interface Received {
  id?: number
  size?: number
  fields: Record<string, unknown>
  content?: Buffer
}

interface Inside {
  recvFrame(): unknown
}

/** A connection of the same classes that leads nowhere. */
class Twin {
  readonly connection: Connection
  readonly stream: Duplex
  /** System calls, if it led somewhere. */
  writes = 0
  readonly #inside: Inside
  #written: Buffer[] = []

  constructor(connection: Connection) {
    this.stream = new Duplex({
      read() {},
      write: (bytes: Buffer, _, done) => this.#write([bytes], done),
      writev: (chunks, done) =>
        this.#write(
          chunks.map(({ chunk }) => chunk as Buffer),
          done
        )
    })
    const { connection: inside } = connection as unknown as { connection: object }
    this.#inside = new (inside.constructor as new (stream: Duplex) => Inside)(this.stream)
    this.connection = new (connection.constructor as new (inside: Inside) => Connection)(
      this.#inside
    )
  }

  #write(chunks: Buffer[], done: () => void): void {
    this.writes++
    this.#written.push(...chunks)
    done()
  }

  /** One that nobody answers; it can be published to all the same. */
  async openChannel(): Promise<ConfirmChannel> {
    let channel!: ConfirmChannel
    await this.writtenBy(() => {
      channel = this.connection.createConfirmChannel(() => {}) as unknown as ConfirmChannel
    })
    return channel
  }

  async writtenBy(work: () => void): Promise<Buffer> {
    this.#written = []
    work()
    for (let turns = 0; turns < MOST_TURNS && this.#written.length === 0; turns++)
      await new Promise(setImmediate)
    return Buffer.concat(this.#written)
  }

  receive(): unknown {
    return this.#inside.recvFrame()
  }
}
