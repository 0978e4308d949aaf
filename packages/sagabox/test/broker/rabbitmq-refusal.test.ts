// What the log says when a broker, or what was taken for one, does not let us in. By a real broker.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { explainRefusal } from '../../src/messaging/rabbitmq/refusal.ts'
import { RabbitTransport } from '../../src/messaging/rabbitmq/transport.ts'
import { topology } from '../../../../test/support/harbour.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'

t.jobs = 4

/** The first reason that is logged for not reaching it. */
async function reasonFor(t: Test, url: string): Promise<string> {
  const logged = new Promise<string>((resolve) => {
    const log = {
      info() {},
      debug() {},
      error() {},
      warn: ({ reason }: { reason: string }, message: string) =>
        message.startsWith('Cannot reach RabbitMQ') && resolve(reason)
    }
    const transport = new RabbitTransport({ url, topology, clientName: 'refused', log })
    t.teardown(() => transport.stop())
    transport.start(() => resolve('none: it let us in'))
  })
  return logged
}

/** A server that says so to everybody who connects. */
async function serverSaying(t: Test, answer: (socket: Socket) => void): Promise<string> {
  const server = createServer((socket) => answer(socket.on('error', () => {}))).listen(
    0,
    '127.0.0.1'
  )
  await once(server, 'listening')
  t.teardown(() => server.close())
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

t.test('what the broker says', async (t) => {
  const broker = await rabbitmqForTests()
  const { host, username, password } = new URL(broker.url)
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
  const manage = async (method: string, path: string, body?: object) => {
    const { ok, status } = await fetch(new URL(`/api/${path}`, broker.managementUrl), {
      method,
      headers: { authorization, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) })
    })
    if (!ok) throw new Error(`${method} ${path} -> ${status}`)
  }
  const weak = `weak-${randomUUID()}`
  await manage('PUT', `users/${weak}`, { password: 'sEcReT', tags: '' })
  t.teardown(() => manage('DELETE', `users/${weak}`))
  const vhost = async (name: string) => {
    const url = await broker.createVhost(`${name} ${randomUUID()}`)
    t.teardown(() => broker.deleteVhost(url))
    return new URL(url).pathname.slice(1)
  }
  const [denied, poor, full] = [await vhost('denied'), await vhost('poor'), await vhost('full')]
  await manage('PUT', `permissions/${poor}/${weak}`, { configure: '^$', write: '.*', read: '.*' })
  await manage('PUT', `vhost-limits/${full}/max-connections`, { value: 0 })

  const cases: [string, string, string][] = [
    [
      'no such vhost',
      `amqp://${weak}:sEcReT@${host}/no%20such`,
      `RABBITMQ_URL: the broker at ${host} does not open the virtual host "no such" for user "${weak}": 530 NOT_ALLOWED - vhost no such not found`
    ],
    [
      'no right to the vhost',
      `amqp://${weak}:sEcReT@${host}/${denied}`,
      `RABBITMQ_URL: the broker at ${host} does not open the virtual host "${decodeURIComponent(denied)}" for user "${weak}": 530 NOT_ALLOWED - access to vhost '${decodeURIComponent(denied)}' refused for user '${weak}'`
    ],
    [
      'a full vhost',
      `amqp://${username}:${password}@${host}/${full}`,
      'connection limit (0) is reached'
    ],
    [
      'a wrong password',
      `amqp://${weak}:wrOng@${host}/`,
      `RABBITMQ_URL: the broker at ${host} refuses the password of user "${weak}", or the user: Handshake terminated by server: 403 (ACCESS-REFUSED)`
    ],
    [
      'no right to declare',
      `amqp://${weak}:sEcReT@${host}/${poor}`,
      `RABBITMQ_URL: user "${weak}" lacks a permission in the virtual host "${decodeURIComponent(poor)}"; expected configure, write and read: exchange `
    ],
    [
      'TLS to a port without',
      `amqps://${weak}:sEcReT@${host}/`,
      `RABBITMQ_URL: amqps:// was given, and ${host} does not speak TLS`
    ],
    [
      'the port of its web page',
      `amqp://${weak}:sEcReT@${new URL(broker.managementUrl).host}/`,
      'does not answer as a broker does'
    ]
  ]
  await Promise.all(
    cases.map(async ([title, url, expected]) => {
      const reason = await reasonFor(t, url)
      t.match(reason, expected, title)
      t.notMatch(reason, /sEcReT|wrOng/, `${title}, without the password`)
    })
  )
})

t.test('what is no broker', async (t) => {
  const others: [string, (socket: Socket) => void][] = [
    ['one that closes', (socket) => socket.destroy()],
    ['a mail server', (socket) => socket.write('220 mail ESMTP\r\n')],
    // As a server with TLS answers one without.
    ['a port with TLS', (socket) => socket.end(Buffer.from([0x15, 3, 1, 0, 2, 2, 0x16]))]
  ]
  for (const [title, answer] of others) {
    const place = await serverSaying(t, answer)
    const reason = await reasonFor(t, `amqp://ada:sEcReT@${place}/`)
    t.match(
      reason,
      `RABBITMQ_URL: what listens at ${place} does not answer as a broker does`,
      title
    )
    t.match(
      reason,
      "expected a broker's AMQP port, usually 5672 for amqp://, while 5671 needs amqps://"
    )
  }
})

t.test('a certificate that nobody vouches for', async (t) => {
  t.equal(
    await explainRefusal(
      'Failed to connect to: rabbitmq://mq/ Original message was: self-signed certificate',
      'amqps://ada:sEcReT@mq/'
    ),
    'RABBITMQ_URL: the certificate of mq:5671 is not trusted (self-signed certificate); RABBITMQ_CA_FILE names a file with the authority that signed it'
  )
  t.equal(
    await explainRefusal('connect ECONNREFUSED 127.0.0.1:5672', 'amqp://127.0.0.1'),
    'connect ECONNREFUSED 127.0.0.1:5672',
    'an outage is what it is'
  )
})
