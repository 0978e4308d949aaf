import fc from 'fast-check'
import { gzipSync } from 'node:zlib'
import type { Test } from 'tap'
import { v7 as uuidv7 } from 'uuid'
import { EnvelopeWriter } from '../../src/messaging/message/envelope.ts'
import type { Headers } from '../../src/messaging/transport/transport.ts'
import { topologyOf } from '../../src/messaging/transport/topology.ts'
import { DockShip, TestService, ship, writes } from '../../../../test/support/harbour.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import type { Bus } from '../../../../test/support/buses.ts'
import { until } from '../../../../test/support/until.ts'

/** What a sender can put on the wire. */
export interface Hostile {
  what: string
  payload: Buffer
  contentType?: string
  headers?: Headers
}

const RANDOM = 150

function nested(levels: number): object {
  let value: object = {}
  for (let level = 0; level < levels; level++) value = { a: value }
  return value
}

/** Envelopes that are wrong in ways that were once thought of. */
function handPicked(): Hostile[] {
  const envelope = () => ({
    ...(JSON.parse(new EnvelopeWriter('test://localhost/', 'port').write(ship(DockShip))) as Record<
      string,
      unknown
    >)
  })
  const text = (value: unknown) =>
    Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))
  const withMessage = (message: unknown) => text({ ...envelope(), message })
  return [
    { what: 'nothing', payload: Buffer.alloc(0) },
    { what: 'a NUL', payload: Buffer.from([0]) },
    {
      what: 'bytes that are no UTF-8',
      payload: Buffer.concat([text('{"messageId":"'), Buffer.from([0xff, 0xfe, 0xc0]), text('"}')])
    },
    { what: 'UTF-16', payload: Buffer.from(JSON.stringify(envelope()), 'utf16le') },
    { what: 'a byte order mark', payload: text(`\uFEFF${JSON.stringify(envelope())}`) },
    { what: 'gzip', payload: gzipSync(JSON.stringify(envelope())) },
    { what: '100,000 brackets', payload: text('['.repeat(100_000)) },
    {
      what: '100,000 closed brackets',
      payload: text(`${'['.repeat(100_000)}${']'.repeat(100_000)}`)
    },
    {
      what: 'deep nesting in the message',
      payload: text(
        JSON.stringify({ ...envelope(), message: 0 }).replace(
          '"message":0',
          `"message":${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`
        )
      )
    },
    { what: '10 MB', payload: Buffer.alloc(10 * 1024 * 1024, ' ') },
    {
      what: '10 MB of an envelope',
      payload: text({ ...envelope(), host: 'x'.repeat(10 * 1024 * 1024) })
    },
    {
      what: '__proto__',
      payload: text(
        `{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},${JSON.stringify(envelope()).slice(1)}`
      )
    },
    {
      what: '__proto__ in the message',
      payload: text(
        JSON.stringify({ ...envelope(), message: 0 }).replace(
          '"message":0',
          '"message":{"__proto__":{"voyageId":"x","polluted":1}}'
        )
      )
    },
    {
      what: '__proto__ in the headers',
      payload: text(
        JSON.stringify({ ...envelope(), headers: 0 }).replace(
          '"headers":0',
          '"headers":{"__proto__":{"traceparent":"x"}}'
        )
      )
    },
    { what: 'a NUL in the message', payload: withMessage({ voyageId: '\0' }) },
    {
      what: 'half a surrogate pair',
      payload: text(JSON.stringify({ ...envelope(), messageType: ['\ud800'] }))
    },
    { what: 'no messageType', payload: text({ ...envelope(), messageType: undefined }) },
    {
      what: 'another messageType',
      payload: text({ ...envelope(), messageType: ['urn:message:Contracts:Nonsense'] })
    },
    {
      what: 'a messageType named like a property',
      payload: text({ ...envelope(), messageType: ['__proto__', 'constructor', 'toString'] })
    },
    {
      what: 'a thousand messageTypes',
      payload: text({
        ...envelope(),
        messageType: Array.from({ length: 1000 }, (_, index) => `urn:message:${index}`)
      })
    },
    { what: 'no message', payload: withMessage(undefined) },
    { what: 'a list for a message', payload: withMessage([]) },
    { what: 'an id that is none', payload: withMessage({ voyageId: "'; drop table outbox; --" }) },
    { what: 'a number for an id', payload: withMessage({ voyageId: 1e308 }) },
    { what: 'text for messageId', payload: text({ ...envelope(), messageId: 'no' }) },
    { what: 'an object for messageId', payload: text({ ...envelope(), messageId: {} }) },
    { what: 'a list for headers', payload: text({ ...envelope(), headers: [] }) },
    { what: 'another content type', payload: text(envelope()), contentType: 'application/xml' },
    {
      what: 'an empty content type with bytes',
      payload: Buffer.from([1, 2, 3]),
      contentType: 'application/octet-stream; charset=binary'
    },
    {
      what: 'headers that look like ours',
      payload: text('no'),
      headers: {
        'MT-Redelivery-Count': 'NaN',
        'sagabox-attempts': '[{"at":1},{]',
        'sagabox-replayed': 'x'
      }
    },
    {
      what: 'headers that lie',
      payload: text('no'),
      headers: {
        'MT-Redelivery-Count': '99999999999999999999',
        'sagabox-attempts': JSON.stringify([{ at: 'x', error: 'y' }]),
        'sagabox-replayed': '1',
        'MT-Fault-Message': 'a lie'
      }
    },
    { what: 'a NUL in a header', payload: text('no'), headers: { note: 'a\0b', 'a\0b': 'c' } },
    { what: 'long headers', payload: text('no'), headers: { note: 'x'.repeat(40_000) } },
    {
      what: 'tables where numbers are expected',
      payload: text('no'),
      headers: {
        'MT-Redelivery-Count': { toString: 1, valueOf: 1 },
        'sagabox-replayed': { valueOf: 1 },
        'x-delivery-count': { toString: 1 }
      }
    },
    { what: 'deep headers', payload: text('no'), headers: { deep: nested(2000) } },
    {
      what: 'deep trace context',
      payload: text(
        `{"headers":{"traceparent":${'{"a":'.repeat(7000)}1${'}'.repeat(7000)}},${JSON.stringify({ ...envelope(), headers: undefined }).slice(1)}`
      )
    },
    {
      what: "the broker's headers",
      payload: text('no'),
      headers: { 'x-death': 'boo', 'x-delivery-count': 'many', 'x-first-death-reason': 5 }
    }
  ]
}

/** Random bytes, random JSON, and a proper envelope with one field missing or replaced. */
function random(seed: number): Hostile[] {
  const bytes = fc
    .uint8Array({ maxLength: 600 })
    .map((array): Hostile => ({ what: 'random bytes', payload: Buffer.from(array) }))
  const json = fc
    .json()
    .map((text): Hostile => ({ what: 'random JSON', payload: Buffer.from(text) }))
  const field = fc.constantFrom(
    'messageId',
    'messageType',
    'message',
    'headers',
    'correlationId',
    'conversationId',
    'initiatorId',
    'sentTime',
    'host',
    'sourceAddress',
    'destinationAddress'
  )
  const spoilt = fc
    .tuple(field, fc.option(fc.jsonValue(), { nil: undefined }))
    .map(([name, value]): Hostile => {
      const envelope = JSON.parse(
        new EnvelopeWriter('test://localhost/', 'port').write(ship(DockShip))
      ) as Record<string, unknown>
      return {
        what: `${name} replaced`,
        payload: Buffer.from(JSON.stringify({ ...envelope, [name]: value }))
      }
    })
  const body = fc.dictionary(fc.string(), fc.jsonValue()).map((extra): Hostile => {
    const envelope = JSON.parse(
      new EnvelopeWriter('test://localhost/', 'port').write(ship(DockShip))
    ) as Record<string, unknown>
    return {
      what: 'fields nobody knows',
      payload: Buffer.from(
        JSON.stringify({ ...envelope, message: { ...(envelope.message as object), ...extra } })
      )
    }
  })
  return fc.sample(fc.oneof(bytes, json, spoilt, body), { numRuns: RANDOM, seed })
}

/**
 * Whatever comes, on every transport: the process lives, the queue goes on, and nothing is lost or
 * changed.
 */
export function endpointFuzz(t: Test, makeBus: (t: Test) => Promise<Bus>): void {
  t.setTimeout(180_000)

  t.test(
    'hostile messages become dead letters with a reason, byte for byte; good ones between them are handled',
    async (t) => {
      const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31))
      t.comment(`FUZZ_SEED=${seed}`)
      const bus = await makeBus(t)
      const service = await TestService.open(
        await (await postgresForTests()).createDatabase(t.name),
        bus.connect(topologyOf([{ name: 'harbour', consumes: [DockShip] }], [DockShip]))
      )
      t.teardown(() => service.stop())
      service.listen('harbour', [writes('harbour', DockShip)])
      service.relay.start()
      await until('messages can be sent', async () => service.transport.canPublish)

      const picked = handPicked()
      const all = [...picked, ...random(seed)]
      const good = all.filter((_, index) => index % 20 === 0).map(() => ship(DockShip))
      await Promise.all([
        ...all.map(({ payload, contentType, headers }) =>
          service.transport.publish({
            messageId: uuidv7(),
            destination: 'harbour',
            required: true,
            payload,
            contentType,
            headers
          })
        ),
        service.send(...good)
      ])
      // The same bytes twice are one letter, seen twice.
      const buriedOrHandled = async () =>
        Number(
          (
            await service.database.rows('select coalesce(sum(seen), 0) as buried from dead_letter')
          )[0].buried
        ) + (await service.count('effects'))
      await until(
        'each is buried or handled',
        async () => (await buriedOrHandled()) >= all.length + good.length
      )
      for (const queue of ['harbour', 'harbour_error', 'harbour_skipped'])
        await until(`${queue} is empty`, async () => ((await bus.kept(queue)) ?? 0) === 0)
      await until('the outbox is empty', async () => (await service.count('outbox')) === 0)

      const letters: { payload: Buffer; reason: string; exception: string }[] =
        await service.database.rows('select payload, reason, exception from dead_letter')
      const handled = await service.count('effects')
      t.equal(
        await buriedOrHandled(),
        all.length + good.length,
        `${letters.length} letters and ${handled} handled: each exactly one of both`
      )
      t.equal(
        new Set((await service.effects()).map(({ voyageId }) => voyageId)).size,
        handled,
        'nothing was handled twice'
      )
      const buried = new Set(letters.map(({ payload }) => payload.toString('base64')))
      for (const { what, payload } of picked)
        if (!/__proto__$|__proto__ in the headers|byte order mark/.test(what))
          t.ok(buried.has(payload.toString('base64')), what)
      const sent = new Set(all.map(({ payload }) => payload.toString('base64')))
      t.ok(
        letters.every(({ payload }) => sent.has(payload.toString('base64'))),
        'byte for byte'
      )
      for (const { reason, exception } of letters)
        if (exception !== 'UnknownMessageType')
          t.match(
            reason,
            /^(body|envelope|contentType|messageId|messageType|conversationId|initiatorId|headers|message[.[\w\]]*): /,
            'names the field'
          )
      t.equal(({} as Record<string, unknown>)['polluted'], undefined)
      t.equal(service.transport.problem(), undefined)
    }
  )
}
