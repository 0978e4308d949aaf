// An instance is explained by services of other processes, and by some that only look like them.
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { postgresForTests } from '../support/postgres.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(180_000)

t.test('services of two processes, over RabbitMQ', async (t) => {
  const databaseUrl = await (await postgresForTests()).createShop()
  const rabbitmqUrl = await (await rabbitmqForTests()).createVhost()
  const shared = { databaseUrl, rabbitmqUrl }
  const others = await startSystem(t, 'rabbitmq', { ...shared, services: ['stock', 'payment'] })
  const { api } = await startSystem(t, 'rabbitmq', {
    ...shared,
    services: ['order'],
    peers: {
      stock: others.system.url,
      payment: `${others.system.url}/`,
      order: 'http://127.0.0.1:1'
    }
  })
  await others.api.putProduct('keyboard', 10)
  await others.api.call('POST', '/ops/payment/endpoint/pause', { reason: 'the bank is away' })
  const id = await api.placeOrder()
  const found = await until('payment is waited for', async () => {
    const explained = await api.get(`/sagas/${id}/explanation`)
    return /queue of payment/.test(explained.sentence) && explained
  })
  t.match(found, {
    finding: 'nowhere',
    severity: 'problem',
    sentence:
      /^StockReservedEvent is with the broker or being handled: 1 message waits in the queue of payment, and it is paused since \d+ s: the bank is away\./
  })
  await others.api.call('POST', '/ops/payment/endpoint/resume')
  await api.settled(id)
})

t.test('peers that are slow, wrong, or somebody else', async (t) => {
  const asked: { url: string | undefined; authorization: string | undefined }[] = []
  const cases: [string, RequestListener, RegExp][] = [
    ['hangs', () => {}, /no answer within 2 s|it cannot be reached/],
    ['drips', (_, answer) => void answer.writeHead(200).write('{'), /within 2 s|aborted|timeout/],
    ['text', (_, answer) => answer.end('<html>'), /its answer is no JSON/],
    ['shape', (_, answer) => answer.end('{"messages":[{}]}'), /another shape/],
    ['null', (_, answer) => answer.end('null'), /another shape/],
    ['refuses', (_, answer) => answer.writeHead(403).end(), /it answered 403/],
    ['large', (_, answer) => answer.end(`"${'x'.repeat(2_000_000)}"`), /more than 1048576 bytes/],
    [
      'redirects',
      (_, answer) => answer.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
      /cannot be reached/
    ],
    ['dies', (request) => request.socket.destroy(), /cannot be reached/]
  ]
  const peers: Record<string, string> = { 'not-there': 'http://127.0.0.1:1' }
  for (const [name, listener] of cases)
    peers[name] = await serve(t, (request, answer) => {
      asked.push({ url: request.url, authorization: request.headers.authorization })
      listener(request, answer)
    })
  peers['stock'] = peers['hangs']!
  const { api } = await startSystem(t, 'memory', { services: ['order'], peers })
  const id = await api.placeOrder()
  const began = performance.now()
  const { status, body } = await api.call('GET', `/sagas/${id}/explanation`, undefined, {
    authorization: 'Bearer of-the-asker'
  })
  t.equal(status, 200)
  t.ok(performance.now() - began < 5000, 'nobody is waited for longer than 2 s')
  for (const [name, , expected] of cases) {
    const line = body.evidence.find(({ text }: { text: string }) => text.startsWith(`${name} did`))
    t.match(line?.text, expected, name)
  }
  t.ok(asked.length >= cases.length)
  for (const { url, authorization } of asked) {
    t.match(url, /^\/ops\/[a-z]+\/messages\?ids=/)
    t.equal(authorization, 'Bearer of-the-asker')
  }
})

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
