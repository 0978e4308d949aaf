import { copyFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { RabbitTransport } from '../../src/messaging/rabbitmq/transport.ts'
import type { BrokerTls } from '../../src/messaging/rabbitmq/tls.ts'
import type { Topology } from '../../src/messaging/transport/topology.ts'
import { newAuthority } from '../../../../test/support/authority.ts'
import { keptLog } from '../../../../test/support/kept-log.ts'
import { startRabbitMQ } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'

t.setTimeout(600_000)

const topology: Topology = {
  exchanges: ['a'],
  queues: [],
  bindings: [],
  elsewhere: [],
  foreign: []
}

function connect(t: Test, url: string, tls?: BrokerTls): RabbitTransport {
  const transport = new RabbitTransport({ url, tls, topology, clientName: 'tls', log: keptLog() })
  transport.start(() => {})
  t.teardown(() => transport.stop())
  return transport
}

/** What is in the way, once the broker has been asked. */
async function refusal(t: Test, url: string, tls?: BrokerTls): Promise<string> {
  const transport = connect(t, url, tls)
  await until('the broker refuses', async () => /RABBITMQ_/.test(transport.problem() ?? ''))
  return transport.problem()!
}

t.test('amqps:// with an authority and a client’s certificate from files', async (t) => {
  const authority = newAuthority(t)
  const { caFile } = authority
  const server = authority.issue('server', 'DNS:localhost')
  const client = authority.issue('client', 'DNS:client')
  const stranger = newAuthority(t)
  const broker = await startRabbitMQ({ tls: { caFile, ...server } })
  t.teardown(() => broker.stop())
  const url = broker.tlsUrl

  const trusted = connect(t, url, { caFile, ...client })
  await until('it is connected', async () => trusted.canPublish)
  t.match(await refusal(t, url), /is not trusted .*RABBITMQ_CA_FILE names/)
  t.match(
    await refusal(t, url, { ...client, caFile: stranger.caFile }),
    /is not (trusted|valid) .*RABBITMQ_CA_FILE names/
  )
  t.match(
    await refusal(t, url.replace('localhost', '127.0.0.1'), { caFile, ...client }),
    /is for another host .*expected the host as the certificate names it/
  )
  t.match(await refusal(t, url, { caFile }), /RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE name it/)
  const other = stranger.issue('client', 'DNS:client')
  t.match(
    await refusal(t, url, { caFile, ...other }),
    /refuses the client's certificate|RABBITMQ_CERT_FILE/
  )

  await t.test('files that changed count for the next connection', async (t) => {
    const files = { ...authority.issue('late', 'DNS:late'), caFile }
    copyFileSync(other.certFile, files.certFile)
    copyFileSync(other.keyFile, files.keyFile)
    const transport = connect(t, url, files)
    await until('it is refused', async () => /RABBITMQ_CERT_FILE/.test(transport.problem() ?? ''))
    copyFileSync(client.certFile, files.certFile)
    copyFileSync(client.keyFile, files.keyFile)
    await until('it is connected', async () => transport.canPublish)
  })
})

t.test('files that cannot be used stop the start, and name their setting', async (t) => {
  const authority = newAuthority(t)
  const [one, other] = [authority.issue('one', 'DNS:one'), authority.issue('other', 'DNS:other')]
  const make = (url: string, tls: BrokerTls) => () =>
    void new RabbitTransport({ url, tls, topology, clientName: 'tls', log: keptLog() })
  const refused = (message: RegExp) => ({ code: 'INVALID_TLS', message })
  const { caFile } = authority
  t.throws(make('amqps://h', { caFile: '/no' }), refused(/RABBITMQ_CA_FILE: \/no .*ENOENT/))
  t.throws(make('amqps://h', { caFile: import.meta.filename }), refused(/not in PEM format/))
  t.throws(make('amqp://h', { caFile }), refused(/without TLS; expected amqps/))
  t.throws(make('amqps://h', { certFile: one.certFile }), refused(/expected both, or neither/))
  t.throws(
    make('amqps://h', { certFile: one.certFile, keyFile: other.keyFile }),
    refused(/the key that belongs to it/)
  )
})
