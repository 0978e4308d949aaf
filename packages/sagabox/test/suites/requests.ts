import type { Test } from 'tap'
import Type from 'typebox'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { handle, handleBatch, type Handler } from '../../src/messaging/endpoint/handler.ts'
import { NotRetryable } from '../../src/messaging/inbox/retry.ts'
import { EnvelopeReader } from '../../src/messaging/message/envelope.ts'
import { faultOf } from '../../src/messaging/message/fault.ts'
import { newId } from '../../src/messaging/message/id.ts'
import type { Message } from '../../src/messaging/message/message.ts'
import { RequestClient } from '../../src/messaging/request/client.ts'
import { queueDestination, type TransportMessage } from '../../src/messaging/transport/transport.ts'
import { topologyOf } from '../../src/messaging/transport/topology.ts'
import type { Bus } from '../../../../test/support/buses.ts'
import { TestService } from '../../../../test/support/harbour.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { latch } from '../../../../test/support/latch.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { until } from '../../../../test/support/until.ts'

const pilot = contracts('harbour', { correlateBy: 'shipId' })
export const Depth = pilot.response('Depth', { metres: Type.Integer() })
export const GetDepth = pilot.request('GetDepth', { berth: Type.Integer() }, Depth)
const Note = pilot.command('Note', { shipId: Type.String({ format: 'uuid' }) })
const nobody = contracts('nobody', { correlateBy: 'shipId' })
const AskNobody = nobody.request('AskNobody', {}, Depth)

export const topology = topologyOf(
  [{ name: 'harbour', consumes: [GetDepth, Note] }],
  [GetDepth, Note]
)

/** How one asks, and is answered. */
export function requestConformance(t: Test, makeBus: (t: Test) => Promise<Bus>): void {
  t.setTimeout(120_000)

  /** The asker's transport is another process's where there can be one. */
  async function open(t: Test, handlers: Handler[] = []) {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const bus = await makeBus(t)
    const said = keptLog()
    const service = await TestService.open(databaseUrl, bus.connect(topology), { log: said })
    t.teardown(() => service.stop())
    service.relay.start()
    if (handlers.length > 0) service.listen('harbour', handlers)
    const asker = bus.connect(topology)
    const client = new RequestClient({ transport: asker, log: said })
    t.teardown(() => client.stop())
    return { bus, databaseUrl, service, asker, client, said }
  }

  const echo = handle(GetDepth, ({ berth }) => Depth({ metres: berth * 10 }))

  t.test('each asker gets the answer to its own question', async (t) => {
    const { client, service } = await open(t, [echo])
    t.same(await client.request(GetDepth({ berth: 1 }), { timeout: '30s' }), { metres: 10 })
    const berths = Array.from({ length: 60 }, (_, index) => index)
    const answers = await Promise.all(
      berths.map((berth) => client.request(GetDepth({ berth }), { timeout: '30s' }))
    )
    t.same(
      answers.map(({ metres }) => metres),
      berths.map((berth) => berth * 10)
    )
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    t.equal(await service.count('dead_letter'), 0)
  })

  t.test('handlers of batches answer, too', async (t) => {
    const { client } = await open(t, [
      handleBatch(GetDepth, async (messages) =>
        messages.map((asked) => Depth({ metres: asked.body.berth }, asked))
      )
    ])
    t.same(await client.request(GetDepth({ berth: 7 })), { metres: 7 })
  })

  t.test('what was rolled back never answers', async (t) => {
    let tries = 0
    const { client, service } = await open(t, [
      handle(GetDepth, async (_, { tx }) => {
        tries++
        // A violation that shows only at the commit.
        if (tries < 3) await tx.query('insert into anchors values (1)')
        return Depth({ metres: tries })
      })
    ])
    await service.database.rows('create table tides (id integer primary key)')
    await service.database.rows(
      'create table anchors (tide integer references tides deferrable initially deferred)'
    )
    t.same(await client.request(GetDepth({ berth: 1 })), { metres: 3 })
  })

  t.test('an answer that was committed outlives its process', async (t) => {
    const { client, service, databaseUrl, bus } = await open(t)
    await service.relay.stop()
    service.listen('harbour', [echo])
    const answer = client.request(GetDepth({ berth: 4 }))
    await until('it is handled', async () => (await service.count('inbox')) === 1)
    const next = await TestService.open(databaseUrl, bus.connect(topology))
    t.teardown(() => next.stop())
    next.relay.start()
    t.same(await answer, { metres: 40 })
  })

  t.test('a failure is told to whoever asked', async (t) => {
    const { client, service } = await open(t, [
      handle(GetDepth, ({ berth }) => {
        if (berth === 0) throw new NotRetryable('no such berth')
        return berth === 1 ? undefined : Depth({ metres: berth })
      })
    ])
    await t.rejects(client.request(GetDepth({ berth: 0 })), {
      code: 'REQUEST_FAILED',
      message: 'GetDepth failed where it was handled: NotRetryable: no such berth',
      exceptions: [{ exceptionType: 'NotRetryable', message: 'no such berth' }]
    })
    await t.rejects(client.request(GetDepth({ berth: 1 })), {
      code: 'REQUEST_FAILED',
      message: /NoAnswer: The handler of GetDepth returned 0 of Depth; expected one/
    })
    t.same(await client.request(GetDepth({ berth: 2 })), { metres: 2 })
    t.equal(await service.count('dead_letter'), 2)
  })

  t.test('a failure that may pass is told in time, not tried again too late', async (t) => {
    const { client } = await open(t, [
      handle(GetDepth, () => {
        throw new Error('the lead line is wet')
      })
    ])
    // The first redelivery would come after 5 s.
    await t.rejects(client.request(GetDepth({ berth: 0 }), { timeout: '4900ms' }), {
      code: 'REQUEST_FAILED',
      message: /the lead line is wet/
    })
  })

  t.test('who waits in vain is told so, and a late answer changes nothing', async (t) => {
    const go = latch()
    const { client, said } = await open(t, [
      handle(GetDepth, async ({ berth }) => {
        if (berth === 0) await go.opened
        return Depth({ metres: berth })
      })
    ])
    await t.rejects(client.request(GetDepth({ berth: 0 }), { timeout: '1s' }), {
      code: 'REQUEST_TIMED_OUT',
      message: 'GetDepth was not answered by harbour within 1 s'
    })
    go.open()
    await until('the late answer came', async () =>
      said.lines.some(
        ({ level, message, fields }) =>
          level === 'debug' && /nobody waits for/.test(message) && fields.late === 1
      )
    )
    t.same(await client.request(GetDepth({ berth: 2 })), { metres: 2 })
  })

  t.test('a request that nobody waits for any more is not handled', async (t) => {
    const handled: number[] = []
    const { client, service, bus } = await open(t)
    await t.rejects(client.request(GetDepth({ berth: 1 }), { timeout: '500ms' }), {
      code: 'REQUEST_TIMED_OUT'
    })
    service.listen('harbour', [
      handle(GetDepth, ({ berth }) => {
        handled.push(berth)
        return Depth({ metres: berth })
      }),
      handle(Note, () => {})
    ])
    t.same(await client.request(GetDepth({ berth: 2 })), { metres: 2 })
    t.same(handled, [2])
    await until(
      'no letter waits to be collected',
      async () => ((await bus.kept('harbour_error')) ?? 0) === 0
    )
    t.equal(await service.count('dead_letter'), 0)
  })

  t.test('what expires in the hands of a busy endpoint is not handled', async (t) => {
    const [begun, go] = [latch(), latch()]
    const handled: number[] = []
    const { client } = await open(t, [
      handle(GetDepth, async ({ berth }) => {
        handled.push(berth)
        if (berth === 0) {
          begun.open()
          await go.opened
        }
        return Depth({ metres: berth })
      })
    ])
    const first = client.request(GetDepth({ berth: 0 }))
    await begun.opened
    // When the second has been waited for, the first has been in hand for longer than its time.
    for (const berth of [1, 3])
      await t.rejects(client.request(GetDepth({ berth }), { timeout: '300ms' }), {
        code: 'REQUEST_TIMED_OUT'
      })
    go.open()
    t.same(await first, { metres: 0 })
    t.same(await client.request(GetDepth({ berth: 2 })), { metres: 2 })
    t.notOk(handled.includes(1))
  })

  t.test('what cannot be asked is refused at once', async (t) => {
    const { client, service } = await open(t, [echo])
    await t.rejects(client.request(AskNobody({})), {
      code: 'REQUEST_NOT_SENT',
      message: /AskNobody was not sent to nobody: .*no.* exchange/
    })
    const note = Note({ shipId: newId() })
    await t.rejects(client.request(note as never), { code: 'REQUEST_NOT_SENT' })
    await t.rejects(client.request(GetDepth({ berth: 1 }), { timeout: 'soon' }), {
      code: 'INVALID_DURATION'
    })
    await t.rejects(client.request(GetDepth({ berth: 1 }), { timeout: '2h' }), {
      code: 'INVALID_DURATION'
    })
    await t.rejects(client.request(GetDepth({ berth: 1 }), { tx: {} } as never), {
      code: 'ASKED_IN_TRANSACTION'
    })
    await t.rejects(service.send(GetDepth({ berth: 1 })), { code: 'ASKED_IN_TRANSACTION' })
  })

  t.test(
    'a failure is told at faultAddress, or else responseAddress, of no request too',
    async (t) => {
      const { asker, service } = await open(t, [
        handle(Note, () => {
          throw new NotRetryable('on the rocks')
        })
      ])
      const told: Message[] = []
      const reader = new EnvelopeReader([faultOf(Note)])
      const answers = asker.takeAnswers!(({ payload, ack }) => {
        told.push(reader.read(payload))
        ack()
      })
      t.teardown(() => answers.cancel())
      await until('answers are taken', async () => answers.isOpen)
      const elsewhere = 'rabbitmq://localhost/nobody-here?temporary=true'
      const shipIds = [newId(), newId()]
      for (const [index, addresses] of [
        { faultAddress: answers.address, responseAddress: elsewhere },
        { faultAddress: null, responseAddress: answers.address }
      ].entries())
        await service.sendText(
          'harbour',
          JSON.stringify({
            messageId: newId(),
            requestId: null,
            ...addresses,
            messageType: [Note.urn],
            message: { shipId: shipIds[index] }
          })
        )
      await until('both are told', async () => told.length === 2)
      t.same(
        told.map(({ body }) => (body as { message: object }).message),
        shipIds.map((shipId) => ({ shipId }))
      )
      await until('nothing is left', async () => (await service.count('outbox')) === 0)
      t.equal(told.length, 2, 'and not published as well')
    }
  )

  t.test('a stop rejects all that waits', async (t) => {
    const { client } = await open(t)
    const asked = client.request(GetDepth({ berth: 1 }))
    await Promise.all([t.rejects(asked, { code: 'REQUEST_ABORTED' }), client.stop()])
    await t.rejects(client.request(GetDepth({ berth: 1 })), { code: 'REQUEST_ABORTED' })
  })

  t.test('hostile answers reach nobody, or whoever they name', async (t) => {
    const questions: { requestId: string; queue: string }[] = []
    const go = latch()
    const { client, service } = await open(t, [
      handle(GetDepth, async ({ berth }, { message }) => {
        questions.push({
          requestId: message.asked!.requestId!,
          queue: message.asked!.answerTo!.queue
        })
        if (berth === 0) await go.opened
        return Depth({ metres: berth })
      })
    ])
    const asked = t.rejects(client.request(GetDepth({ berth: 0 })), {
      code: 'UNEXPECTED_ANSWER',
      message: /message.metres/
    })
    const [{ requestId, queue }] = await until('it is asked', async () =>
      questions.length === 1 ? (questions as [(typeof questions)[0]]) : undefined
    )
    const envelope = (fields: object) =>
      JSON.stringify({
        messageId: newId(),
        requestId,
        messageType: [Depth.urn],
        message: {},
        ...fields
      })
    const send = (payload: string | Buffer, more: Partial<TransportMessage> = {}) =>
      service.transport.publish({
        messageId: newId(),
        destination: queueDestination(queue),
        required: true,
        payload,
        ...more
      })
    for (const payload of [
      '',
      '{',
      'null',
      '[]',
      Buffer.from([0xff, 0xfe]),
      'x'.repeat(1024 * 1024 + 1),
      `{"a":${'['.repeat(5000)}`,
      envelope({ requestId: newId() }),
      envelope({ requestId: 7 }),
      envelope({ requestId: '__proto__' })
    ])
      t.equal(await send(payload), 'accepted')
    await send(envelope({}), { contentType: 'application/octet-stream' })
    await send(envelope({}), { headers: { 'MT-Host': { deep: ['x'] } } })
    await asked
    go.open()
    t.same(await client.request(GetDepth({ berth: 3 })), { metres: 3 }, 'it goes on')
    t.equal(
      await send(envelope({}), { destination: queueDestination('nobody-here'), required: false }),
      'accepted',
      'what goes to a queue that is gone is dropped'
    )
  })

  t.test('a stranger who wants the answer elsewhere gets none', async (t) => {
    const taken: number[] = []
    const { service, said } = await open(t, [
      handle(GetDepth, ({ berth }) => {
        taken.push(berth)
        return Depth({ metres: berth })
      })
    ])
    const addresses = [
      'http://evil.example/queue',
      `${service.transport.address}other/vhost/queue`,
      'queue:a b',
      '',
      7,
      null
    ]
    for (const [berth, responseAddress] of addresses.entries())
      await service.sendText(
        'harbour',
        JSON.stringify({
          messageId: newId(),
          requestId: newId(),
          responseAddress,
          expirationTime: 'never',
          messageType: [GetDepth.urn],
          message: { berth }
        })
      )
    await until('all are handled', async () => taken.length === addresses.length)
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    t.equal(await service.count('dead_letter'), 0)
    t.equal(said.lines.filter(({ message }) => /no queue of this broker/.test(message)).length, 4)
  })

  t.test('on the wire it is what MassTransit writes', async (t) => {
    const { client, service, asker } = await open(t, [echo])
    const wire: Record<string, string>[] = []
    for (const transport of new Set([asker, service.transport])) {
      const publish = transport.publish.bind(transport)
      transport.publish = (message) => {
        wire.push(JSON.parse(String(message.payload)) as Record<string, string>)
        return publish(message)
      }
    }
    await client.request(GetDepth({ berth: 5 }), { timeout: '20s' })
    const [asked, answered] = wire as [Record<string, string>, Record<string, string>]
    t.match(asked, {
      messageType: ['urn:message:Contracts:GetDepth'],
      message: { berth: 5 },
      responseAddress: /^(rabbitmq|loopback):\/\/.*_node_bus_[0-9a-f-]+\?temporary=true$/,
      destinationAddress: /harbour$/
    })
    t.equal(Date.parse(asked.expirationTime!) - Date.parse(asked.sentTime!), 20_000)
    t.match(answered, {
      requestId: asked.requestId,
      conversationId: asked.conversationId,
      destinationAddress: asked.responseAddress,
      messageType: ['urn:message:Contracts:Depth'],
      message: { metres: 50 }
    })
  })
}
