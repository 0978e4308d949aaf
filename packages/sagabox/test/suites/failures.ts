import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { GroupRetries } from '../../src/messaging/dead-letters/group-retries.ts'
import { NotAllowed } from '../../src/messaging/dead-letters/known-letter.ts'
import { DeadLetterOffice } from '../../src/messaging/dead-letters/office.ts'
import { handleBatch } from '../../src/messaging/endpoint/handler.ts'
import { EnvelopeWriter } from '../../src/messaging/message/envelope.ts'
import { faultOf } from '../../src/messaging/message/fault.ts'
import type { Message } from '../../src/messaging/message/message.ts'
import { NotRetryable, type RetryPolicy } from '../../src/messaging/inbox/retry.ts'
import { topologyOf, type EndpointTopology } from '../../src/messaging/transport/topology.ts'
import {
  DockShip,
  log,
  TestService,
  ship,
  ships,
  ShipSailedEvent,
  voyageOf,
  writes
} from '../../../../test/support/harbour.ts'
import type { HarbourProcess } from '../../../../test/support/harbour-process.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import type { Bus } from '../../../../test/support/buses.ts'
import { TYPESCRIPT } from '../../../../test/support/program.ts'
import { spied } from '../../../../test/support/spied-transport.ts'
import { together } from '../../../../test/support/together.ts'
import { until } from '../../../../test/support/until.ts'

const HARBOUR = { name: 'harbour', consumes: [ShipSailedEvent, DockShip] }
const COASTGUARD = { name: 'coastguard', consumes: [faultOf(DockShip)] }

/** Gives up soon: two tries at once, two later. */
const HASTY: RetryPolicy = {
  immediate: { times: 1, minMs: 1, maxMs: 1 },
  redeliverySeconds: [0.01, 0.01]
}

interface Letter {
  id: number
  endpoint: string
  kind: string
  status: string
  message_id: string | null
  message_type: string | null
  exception: string
  reason: string
  stack: string
  seen: number
  payload: Buffer
  content_type: string | null
  headers: Record<string, unknown>
  attempts: { at: string; error: string }[]
}

interface World {
  bus: Bus
  databaseUrl: string
  service: TestService
  office: DeadLetterOffice
  groups: GroupRetries
  letters(): Promise<Letter[]>
  /** Nothing is under way any more. */
  quiet(): Promise<void>
}

/** What becomes of messages that cannot be handled, on every transport. */
export function failureConformance(t: Test, makeBus: (t: Test) => Promise<Bus>): void {
  t.setTimeout(180_000)

  async function open(t: Test, ...endpoints: EndpointTopology[]): Promise<World> {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const bus = await makeBus(t)
    const service = await TestService.open(
      databaseUrl,
      bus.connect(topologyOf([HARBOUR, ...endpoints], [ShipSailedEvent, DockShip]))
    )
    const office = new DeadLetterOffice(service.database, service.outbox)
    const groups = new GroupRetries(service.database, service.outbox, log)
    t.teardown(async () => {
      await groups.stop()
      await service.stop()
    })
    service.relay.start()
    return {
      bus,
      databaseUrl,
      service,
      office,
      groups,
      letters: () =>
        service.database.rows(
          'select *, id::integer as id from dead_letter order by dead_letter.id'
        ),
      async quiet() {
        await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
        for (const queue of ['harbour', 'harbour_error', 'harbour_skipped', 'coastguard'])
          await until(
            `the queue ${queue} is empty`,
            async () => ((await bus.kept(queue)) ?? 0) === 0
          )
      }
    }
  }

  t.test(
    'a handler that works at the third try: handled once, and nobody hears of it',
    async (t) => {
      const { service, quiet, letters } = await open(t)
      const sent = ships(DockShip, 20)
      const guilty = sent[7]!
      let tries = 0
      service.listen('harbour', [
        writes('harbour', DockShip, {
          async then(messages) {
            if (
              messages.some(({ messageId }) => messageId === guilty.messageId) &&
              messages.length === 1 &&
              ++tries < 3
            )
              throw new Error('the tide is out')
            if (
              messages.length > 1 &&
              messages.some(({ messageId }) => messageId === guilty.messageId)
            )
              throw new Error('the tide is out')
          }
        })
      ])
      await service.send(...sent)
      await until('all are handled', async () => (await service.count('effects')) === sent.length)
      await quiet()
      t.same(
        (await service.effects()).map(({ voyageId }) => voyageId).toSorted(),
        sent.map(voyageOf).toSorted(),
        'each once'
      )
      t.equal(tries, 3)
      t.same(await letters(), [])
    }
  )

  t.test(
    'a message that never works is tried at once, then later, then becomes a dead letter with all its attempts, and a Fault',
    async (t) => {
      const { service, quiet, letters } = await open(t, COASTGUARD)
      const faults: Message[] = []
      service.listen('coastguard', [
        handleBatch(faultOf(DockShip), async (messages) => {
          faults.push(...messages)
          return []
        })
      ])
      const [guilty, ...others] = ships(DockShip, 10)
      const redeliveries: unknown[] = []
      const watched = spied(service.transport, {
        deliver(endpoint, delivery) {
          if (endpoint === 'harbour' && delivery.messageId === guilty!.messageId)
            redeliveries.push(delivery.headers['MT-Redelivery-Count'])
        }
      })
      service.listen('harbour', [{ ...failsFor(guilty!), retry: HASTY }], watched)
      await service.send(guilty!, ...others)
      const [letter] = await until('it is a dead letter', async () => {
        const found = await letters()
        return found.length > 0 && found
      })
      await quiet()
      t.equal(await service.count('effects'), others.length, 'its neighbours are handled')
      t.same(redeliveries, [undefined, 1, 2], 'it left the queue and came again twice')
      t.match(letter, {
        endpoint: 'harbour',
        kind: 'error',
        status: 'waiting',
        message_id: guilty!.messageId,
        message_type: 'DockShip',
        correlation_id: voyageOf(guilty!),
        exception: 'Error',
        reason: 'on the rocks',
        stack: /failures\.ts/,
        seen: 1,
        headers: {
          'MT-Reason': 'fault',
          'MT-Fault-ExceptionType': 'Error',
          'MT-Fault-Message': 'on the rocks',
          'MT-Fault-MessageType': DockShip.urn,
          'MT-Fault-InputAddress': /harbour$/,
          'MT-Fault-RetryCount': 5,
          'MT-Fault-RedeliveryCount': 2,
          'MT-Host-MassTransitVersion': '8.0.0.0'
        }
      })
      t.equal(letter!.attempts.length, 6, 'three deliveries, two tries each')
      for (const attempt of letter!.attempts)
        t.match(attempt, { at: /^\d{4}-/, error: 'Error: on the rocks' })
      t.match(JSON.parse(letter!.payload.toString()), {
        messageId: guilty!.messageId,
        headers: { 'MT-Redelivery-Count': 2 }
      })
      t.equal(faults.length, 1)
      t.match(faults[0], {
        correlationId: voyageOf(guilty!),
        conversationId: guilty!.conversationId,
        body: {
          faultedMessageId: guilty!.messageId,
          exceptions: [{ exceptionType: 'Error', message: 'on the rocks' }],
          faultMessageTypes: [DockShip.urn],
          message: guilty!.body
        }
      })
    }
  )

  t.test('errors that no retry can mend: a dead letter after one try', async (t) => {
    const { service, quiet, letters } = await open(t)
    const [thrown, declared, unstorable] = ships(DockShip, 3)
    let tries = 0
    service.listen('harbour', [
      {
        ...writes('harbour', DockShip, {
          async then(messages, tx) {
            if (messages.length > 1) throw new Error('a batch')
            tries++
            if (messages[0]!.messageId === thrown!.messageId)
              throw new NotRetryable('no such berth')
            if (messages[0]!.messageId === declared!.messageId)
              throw new RangeError('too long for any berth')
            await tx.query(`select '\\u0000'::jsonb`)
          }
        }),
        retry: { notRetryable: (error) => error instanceof RangeError }
      }
    ])
    await service.send(thrown!, declared!, unstorable!)
    await until('all are dead letters', async () => (await letters()).length === 3)
    await quiet()
    t.equal(tries, 3)
    const byId = new Map((await letters()).map((letter) => [letter.message_id, letter]))
    t.match(byId.get(thrown!.messageId), {
      exception: 'NotRetryable',
      reason: 'no such berth',
      attempts: [{ error: 'NotRetryable: no such berth' }]
    })
    t.match(byId.get(declared!.messageId), { exception: 'RangeError' })
    t.match(byId.get(unstorable!.messageId), { exception: /22P0/ })
  })

  t.test(
    'an operator retries letters: handled under the same id, or back with its new attempts',
    async (t) => {
      const { service, office, quiet, letters } = await open(t)
      const [guilty] = ships(DockShip, 1)
      let mended = false
      service.listen('harbour', [{ ...failsFor(guilty!, () => mended), retry: HASTY }])
      await service.send(guilty!)
      const [letter] = await until('it is a dead letter', async () => {
        const found = await letters()
        return found.length > 0 && found
      })
      await quiet()
      t.equal(await office.retry(4711), undefined)

      t.match(await office.retry(letter!.id), { messageId: guilty!.messageId })
      await t.rejects(office.retry(letter!.id), NotAllowed, 'one at a time')
      await until('it has failed again', async () => (await letters())[0]?.seen === 2)
      await quiet()
      const [again, ...more] = await letters()
      t.match(again, { id: letter!.id, status: 'waiting', seen: 2 })
      t.equal(
        again!.attempts.length,
        letter!.attempts.length + 2,
        'tried twice more, and not put off'
      )
      t.same(more, [], 'it is the same letter')

      mended = true
      await office.retry(letter!.id)
      await until('it is handled', async () => (await letters())[0]?.status === 'handled')
      await quiet()
      t.equal(await service.count('effects'), 1)
      await t.rejects(office.retry(letter!.id), NotAllowed, 'not once more')
      t.ok(await office.delete(letter!.id, 'seen to'))
      t.same(await letters(), [])
      const audit = await service.database.rows(
        'select action, message_id, details from dead_letter_audit order by id'
      )
      t.match(audit, [
        { action: 'retry' },
        { action: 'retry' },
        {
          action: 'delete',
          message_id: guilty!.messageId,
          details: { why: 'seen to', type: 'DockShip', reason: 'on the rocks' }
        }
      ])
    }
  )

  t.test(
    'a group is sent back a few at a time: it stops when they fail again, and goes through when they do not',
    async (t) => {
      const { service, groups, quiet, letters } = await open(t)
      const sent = ships(DockShip, 30)
      let mended = false
      service.listen('harbour', [
        {
          ...writes('harbour', DockShip, {
            async then() {
              if (!mended) throw new NotRetryable('the crane is broken')
            }
          })
        }
      ])
      await service.send(...sent)
      await until('all are dead letters', async () => (await letters()).length === sent.length)
      await quiet()
      groups.start()
      const first = await groups.begin({ type: 'DockShip' }, 1000)
      const stopped = await until('the group is stopped', async () => {
        const retry = await groups.get(first)
        return retry?.state !== 'running' && retry
      })
      t.match(stopped, { state: 'stopped', sent: 6, handled: 0, left: 24, reason: /failed again/ })
      await quiet()
      mended = true
      t.match(await groups.get(await groups.begin({ type: 'SomethingElse' }, 10)), {
        left: 0
      })
      const second = await groups.begin({ exception: 'NotRetryable' }, 1000)
      const done = await until('the group is done', async () => {
        const retry = await groups.get(second)
        return retry?.state !== 'running' && retry
      })
      t.match(done, { state: 'done', sent: 30, handled: 30, failedAgain: 0, underWay: 0, left: 0 })
      t.equal(await service.count('effects'), sent.length)
      t.ok((await letters()).every(({ status }) => status === 'handled'))
      t.match(
        (await groups.list(10)).map(({ state }) => state),
        ['done', 'done', 'stopped']
      )
    }
  )

  t.test('a dead letter of a message that was handled after all waits for nobody', async (t) => {
    const { service, quiet, letters } = await open(t)
    const sent = ship(DockShip)
    service.listen('harbour', [writes('harbour', DockShip)])
    await service.send(sent)
    await until('it is handled', async () => (await service.count('effects')) === 1)
    await service.sendText(
      'harbour_error',
      new EnvelopeWriter(service.transport.address, 'port').write(sent),
      sent.messageId
    )
    await until('its letter is there', async () => (await letters()).length === 1)
    // Another message under its id was not: neither is its letter.
    await service.sendText(
      'harbour_error',
      new EnvelopeWriter(service.transport.address, 'port').write({
        ...ship(DockShip),
        messageId: sent.messageId
      }),
      sent.messageId
    )
    await until('its letter is there, too', async () => (await letters()).length === 2)
    await quiet()
    t.match(await letters(), [{ status: 'handled' }, { status: 'waiting' }])
  })

  t.test(
    'another message under an id that was handled is a dead letter of its own; a copy is dropped',
    async (t) => {
      const { service, quiet, letters } = await open(t)
      const [guilty, forged] = ships(DockShip, 2)
      let mended = false
      service.listen('harbour', [
        writes('harbour', DockShip, {
          async then(messages) {
            if (!mended && messages.some((message) => voyageOf(message) === voyageOf(guilty!)))
              throw new NotRetryable('on the rocks')
          }
        })
      ])
      const writer = new EnvelopeWriter(service.transport.address, 'port')
      await service.send(guilty!)
      const [letter] = await until('it is a dead letter', async () => {
        const found = await letters()
        return found.length > 0 && found
      })
      // Another message comes under its id, is handled, and comes once more, in another envelope.
      const other = { ...forged!, messageId: guilty!.messageId }
      await service.sendText('harbour', writer.write(other), other.messageId)
      await until('the other one is handled', async () => (await service.count('effects')) === 1)
      await service.sendText(
        'harbour',
        writer.write(other, '2001-01-01T00:00:00.000Z'),
        other.messageId
      )
      await quiet()
      t.match(
        await letters(),
        [{ id: letter!.id, status: 'waiting', seen: 1 }],
        'the copy is no letter'
      )

      mended = true
      const office = new DeadLetterOffice(service.database, service.outbox)
      await office.retry(letter!.id)
      await until('it is a dead letter again', async () => (await letters())[0]?.seen === 2)
      await quiet()
      const [again, ...more] = await letters()
      const reason = new RegExp(
        `^messageId: expected a copy of .* ${guilty!.messageId} .*, got another DockShip `
      )
      t.match(
        again,
        { id: letter!.id, status: 'waiting', exception: 'MessageIdReused', reason },
        'it was not handled, and does not say so'
      )
      t.same(more, [])
      t.equal(await service.count('effects'), 1)

      t.test('what 0.1 has handled is known by its id alone', async (t) => {
        await service.database.rows('update inbox set content = null')
        await office.retry(letter!.id)
        await until('it counts as handled', async () => (await letters())[0]?.status === 'handled')
        await quiet()
        t.equal(await service.count('effects'), 1)
      })
    }
  )

  t.test(
    'two messages of one id in one batch: one is handled, the other is a dead letter',
    async (t) => {
      const { service, quiet, letters } = await open(t)
      service.listen(
        'harbour',
        [writes('harbour', DockShip)],
        together(service.transport, 'harbour', 4)
      )
      const [one, two, three] = ships(DockShip, 3)
      const writer = new EnvelopeWriter(service.transport.address, 'port')
      const under = { ...two!, messageId: one!.messageId }
      for (const sent of [one!, under, one!, three!])
        await service.sendText('harbour', writer.write(sent), sent.messageId)
      await until('it is a dead letter', async () => (await letters()).length === 1)
      await quiet()
      t.match(await letters(), [
        {
          exception: 'MessageIdReused',
          message_id: one!.messageId,
          correlation_id: voyageOf(two!),
          status: 'waiting'
        }
      ])
      t.same(
        (await service.effects()).map(({ voyageId }) => voyageId).toSorted(),
        [one!, three!].map(voyageOf).toSorted()
      )
      t.equal(
        new Set((await service.effects()).map(({ transaction }) => transaction)).size,
        1,
        'nobody was held up by it'
      )
    }
  )

  for (const by of ['SIGKILL', 'an endless loop'] as const) {
    t.test(
      `a message that ends its process by ${by} becomes a dead letter; its neighbours are handled once`,
      async (t) => {
        const { bus, databaseUrl, service, letters } = await open(t)
        // In memory its messages stay in the outbox, for the process that is to die.
        if (!bus.url) await service.relay.stop()
        const sent = ships(DockShip, 12)
        const deadly = sent[4]!
        await service.send(...sent)
        const options: HarbourProcess = {
          databaseUrl,
          rabbitmqUrl: bus.url,
          dies: 'never',
          deadly: { messageId: deadly.messageId, by }
        }
        if (bus.url)
          await until('they are in the queue', async () => (await service.count('outbox')) === 0)
        let deaths = 0
        const run = async (): Promise<void> => {
          const child = fork(
            fileURLToPath(new URL('../../../../test/support/harbour-process.ts', import.meta.url)),
            [JSON.stringify(options)],
            { execArgv: [TYPESCRIPT], silent: true }
          )
          t.teardown(() => child.kill('SIGKILL'))
          let lastWords = ''
          child.stderr!.on('data', (text: Buffer) => (lastWords = text.toString()))
          const ended = once(child, 'exit').then(() => 'died' as const)
          const buried = until(
            'it is a dead letter',
            async () => (await letters()).length > 0 && ('buried' as const)
          )
          if ((await Promise.race([ended, buried])) === 'died') {
            deaths++
            if (deaths > 10) throw new Error(`a crash loop: ${lastWords}`)
            return run()
          }
          await until(
            'the others are handled',
            async () => (await service.count('effects')) === sent.length - 1
          )
          child.disconnect()
          await ended
        }
        await run()
        // In memory what an earlier process has left is recorded from the first start on.
        t.equal(deaths, bus.url ? 5 : 4)
        t.match(await letters(), [
          { message_id: deadly.messageId, exception: 'DeadlyMessage', reason: /process ended/ }
        ])
        t.same(
          (await service.effects()).map(({ voyageId }) => voyageId).toSorted(),
          sent
            .filter((one) => one !== deadly)
            .map(voyageOf)
            .toSorted()
        )
      }
    )
  }
}

/** Writes its effects, but not for this message. */
function failsFor(guilty: Message, mended: () => boolean = () => false) {
  return writes('harbour', DockShip, {
    async then(messages) {
      if (!mended() && messages.some(({ messageId }) => messageId === guilty.messageId))
        throw new Error('on the rocks')
    }
  })
}
