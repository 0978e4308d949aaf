// Dead letters of services that are not ours, with the headers that MassTransit 8.5 gives them.
import {
  defineService,
  InvalidService,
  MemoryTransport,
  startSagabox,
  Type,
  contracts
} from 'sagabox'
import t, { type Test } from 'tap'
import { newId } from '../../src/messaging/message/id.ts'
import { declareEndpoint, foreignChannel } from '../../../../test/support/masstransit.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'

t.setTimeout(180_000)

const QUORUM = { 'x-queue-type': 'quorum' }
const shop = contracts('shop', { correlateBy: 'orderId' })
const Placed = shop.event(
  'Placed',
  { orderId: Type.String({ format: 'uuid' }) },
  { optional: true }
)
const service = defineService('shop', {
  sends: [Placed],
  lettersOf: ['stock_error', 'stock_skipped']
})

const ERROR = {
  'MT-Host-MachineName': 'web-1',
  'MT-Host-ProcessName': 'Stock',
  'MT-Host-ProcessId': '14905',
  'MT-Reason': 'fault',
  'MT-Fault-ExceptionType': 'System.InvalidOperationException',
  'MT-Fault-InputAddress': 'rabbitmq://localhost/stock',
  'MT-Fault-Message': 'boom: it broke',
  'MT-Fault-Timestamp': '2026-11-28T15:29:39.3169588Z',
  'MT-Fault-StackTrace': '   at Stock.Consume()',
  'MT-Fault-ConsumerType': 'Stock.Consumer',
  'MT-Fault-MessageType': 'Contracts.Placed'
}
const SKIPPED = {
  'MT-Host-MachineName': 'web-1',
  'MT-Host-ProcessName': 'Stock',
  'MT-Reason': 'dead-letter'
}

const envelope = (type: string) =>
  JSON.stringify({
    messageId: newId(),
    requestId: null,
    messageType: [`urn:message:Contracts:${type}`],
    message: { orderId: newId() },
    headers: { 'MT-Activity-Id': 'kept' }
  })

async function open(t: Test) {
  const broker = await rabbitmqForTests()
  const url = await broker.createVhost()
  t.teardown(() => broker.deleteVhost(url))
  const channel = await foreignChannel(t, url)
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name.slice(0, 40))
  const start = async () => {
    const log = keptLog()
    const app = await startSagabox({
      services: [service],
      databaseUrl,
      rabbitmqUrl: url,
      signals: false,
      log
    })
    t.teardown(() => app.stop())
    return { app, log }
  }
  const send = async (queue: string, text: string, headers: object) => {
    channel.publish(queue, '', Buffer.from(text), {
      messageId: newId(),
      contentType: 'application/vnd.masstransit+json',
      persistent: true,
      headers
    })
    await channel.waitForConfirms()
  }
  return { channel, start, send }
}

async function call(url: string, body?: object) {
  const answer = await fetch(url, {
    ...(body && {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body)
    })
  })
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON of any route
  return (await answer.json()) as any
}

t.test('they are collected as theirs, and sent back to their endpoint', async (t) => {
  const { channel, start, send } = await open(t)
  await declareEndpoint(channel, 'stock', QUORUM)
  await declareEndpoint(channel, 'stock_skipped', QUORUM)
  const { app, log } = await start()
  const letters = `${app.url}/ops/shop/dead-letters`
  await until(
    'it is ready: a queue that MassTransit has not declared yet is no problem',
    async () => {
      const { status } = await fetch(`${app.url}/health/ready`)
      return status === 200
    }
  )
  await declareEndpoint(channel, 'stock_error', QUORUM)
  const texts = [envelope('Placed'), envelope('Unknown')]
  await send('stock_error', texts[0]!, ERROR)
  await send('stock_skipped', texts[1]!, SKIPPED)
  const { items } = await until('both are collected', async () => {
    const found = await call(letters)
    return found.items.length === 2 && found
  })
  t.match(
    items.toSorted((a: { kind: string }, b: { kind: string }) => (a.kind < b.kind ? -1 : 1)),
    [
      {
        endpoint: 'stock',
        kind: 'error',
        status: 'waiting',
        type: 'Placed',
        exception: 'System.InvalidOperationException',
        reason: 'boom: it broke'
      },
      {
        endpoint: 'stock',
        kind: 'skipped',
        type: 'Unknown',
        reason: 'skipped by Stock on web-1: it has no consumer of this type'
      }
    ]
  )
  t.same((await call(`${app.url}/ops/shop/outbox`)).pending, 0, 'theirs is the fault to tell')
  for (const { id } of items) await call(`${letters}/${id}/retry`, { why: 'mended' })
  const found: Awaited<ReturnType<typeof channel.get>>[] = []
  await until('both are back', async () => {
    const one = await channel.get('stock', { noAck: true })
    if (one) found.push(one)
    return found.length === 2
  })
  t.same(
    found.map((one) => (one ? one.content.toString() : '')).toSorted(),
    texts.toSorted(),
    'byte for byte'
  )
  for (const one of found)
    t.same(
      Object.keys((one && one.properties.headers) || {}).filter((name) => name.startsWith('MT-')),
      [],
      'and nothing of the failure'
    )
  t.same((await call(`${letters}?status=handled`)).items.length, 2)
  await send('stock_error', texts[0]!, ERROR)
  await until('what fails again is there again', async () => {
    const [again] = (await call(`${letters}?status=waiting`)).items
    return again?.seen === 2
  })
  t.same(
    log.lines.filter(({ level }) => level === 'error' || level === 'warn'),
    []
  )
})

t.test('what is sent back while its endpoint is away waits, over a restart too', async (t) => {
  const { channel, start, send } = await open(t)
  await declareEndpoint(channel, 'stock_error', QUORUM)
  const text = envelope('Placed')
  await send('stock_error', text, ERROR)
  const { app } = await start()
  const letters = `${app.url}/ops/shop/dead-letters`
  const [{ id }] = await until('it is collected', async () => {
    const { items } = await call(letters)
    return items.length === 1 && items
  })
  await call(`${letters}/${id}/retry`, { why: 'mended' })
  await until('it waits', async () => {
    const { pending, postponed } = await call(`${app.url}/ops/shop/outbox`)
    return pending + postponed === 1
  })
  await app.stop()
  await declareEndpoint(channel, 'stock', QUORUM)
  await start()
  const message = await until('it is there', () => channel.get('stock', { noAck: true }))
  t.equal(message.content.toString(), text)
})

t.test('only queues of dead letters of others can be named', async (t) => {
  for (const queue of ['stock', 'shop_error', 'shop_skipped', '_error', 'a b_error'])
    t.throws(() => defineService('shop', { lettersOf: [queue] }), InvalidService, queue)
  t.doesNotThrow(() => defineService('shop', { lettersOf: ['stock_error'] }))
  const memory = new MemoryTransport({
    exchanges: [],
    queues: [],
    bindings: [],
    elsewhere: [],
    foreign: []
  })
  const nobody = memory.subscribe('stock_error', () => {}, 1, true)
  await nobody.cancel()
  t.throws(() => memory.subscribe('stock_error', () => {}), /No endpoint named stock_error/)
})
