import { connect, type Channel } from 'amqplib'
import t, { type Test } from 'tap'
import { services } from '../../../../docs/examples/parcel.ts'
import { examineBroker } from '../../src/doctor/broker.ts'
import { runCommand } from '../../../../test/support/cli.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'

t.setTimeout(600_000)

const APP = ['--app', 'docs/examples/parcel.ts']

interface Place {
  env: Record<string, string>
  channel: Channel
  queues(): Promise<string[]>
}

async function newVhost(t: Test): Promise<Place> {
  const broker = await rabbitmqForTests()
  const url = await broker.createVhost(t.name.replaceAll(/\W+/g, '-').slice(0, 40))
  const connection = await connect(url)
  t.teardown(() => connection.close())
  return {
    env: { RABBITMQ_URL: url, RABBITMQ_MANAGEMENT_URL: broker.managementUrl },
    channel: await connection.createChannel(),
    queues: async () => (await broker.queues(url)).map(({ name }) => name)
  }
}

t.test('show asks no broker', async (t) => {
  const shown = await runCommand(['topology', 'show', ...APP])
  t.match(shown, { code: 0, err: '' })
  t.match(shown.out, /^ {2}courier +courier_error$/m)
  t.match(shown.out, /^ {2}Contracts:ParcelRequested -> exchange shipping$/m)
  const json = JSON.parse((await runCommand(['topology', 'show', '--json', ...APP])).out)
  t.ok(json.exchanges.includes('courier'))
})

t.test(
  'check changes nothing and says what is missing, apply makes it, check finds nothing',
  async (t) => {
    const { env, channel, queues } = await newVhost(t)
    const before = await runCommand(['topology', 'check', ...APP], env)
    t.equal(before.code, 1, before.err)
    t.match(before.out, /^queue courier\n {2}found {5}it is missing\n/m)
    t.same(await queues(), [])
    const applied = await runCommand(['topology', 'apply', ...APP], env)
    t.match(applied, { code: 0, out: /^made queue courier_error$/m }, applied.err)
    t.match(await runCommand(['topology', 'check', ...APP], env), {
      code: 0,
      out: 'Nothing found\n'
    })
    t.match(await runCommand(['topology', 'apply', ...APP], env), { code: 0, out: /^0 made; / })

    await channel.unbindExchange('shipping', 'Contracts:ParcelRequested', '')
    const unbound = await runCommand(['topology', 'check', '--json', ...APP], env)
    t.match(JSON.parse(unbound.out).findings, [
      {
        about: 'exchange Contracts:ParcelRequested',
        found: 'it is not bound to the exchange shipping'
      }
    ])
    const blind = await runCommand(['topology', 'check', ...APP], {
      ...env,
      RABBITMQ_MANAGEMENT_URL: ''
    })
    t.match(blind, { code: 0, out: /^Bindings were not looked at: AMQP does not tell them/ })
    const away = { ...env, RABBITMQ_MANAGEMENT_URL: 'http://guest:secret@127.0.0.1:1' }
    const unseen = await runCommand(['topology', 'check', ...APP], away)
    t.match(unseen, {
      code: 0,
      out: /^Bindings were not looked at: http:\/\/127.0.0.1:1 cannot be/
    })
    t.notMatch(unseen.out, /secret/)
    await runCommand(['topology', 'apply', ...APP], env)
    t.match(await runCommand(['topology', 'check', ...APP], env), { code: 0 })
  }
)

t.test('queues and exchanges that are otherwise are found, and left as they are', async (t) => {
  const { env, channel } = await newVhost(t)
  await channel.assertQueue('courier', { durable: true })
  await channel.assertExchange('Contracts:CourierBooked', 'topic')
  const { code, out } = await runCommand(['topology', 'check', '--json', ...APP], env)
  t.equal(code, 1)
  const { findings } = JSON.parse(out)
  t.match(
    findings.find(({ about }: { about: string }) => about === 'queue courier'),
    {
      found: /^it was declared otherwise: .*"x-queue-type":"classic"/,
      expected: 'the dead-letter exchange courier_error',
      advice: /^rabbitmqctl set_policy /
    }
  )
  t.match(
    findings.find(({ about }: { about: string }) => about === 'the broker'),
    { found: /^exchange Contracts:CourierBooked is of type topic; expected fanout/ }
  )
  t.match(await runCommand(['topology', 'apply', ...APP], env), {
    code: 1,
    out: /exchange Contracts:CourierBooked is of type topic/
  })
})

t.test(
  'doctor looks at the broker, too: version, dead letters, other queues, exchanges that lead nowhere',
  async (t) => {
    const { env, channel } = await newVhost(t)
    await runCommand(['topology', 'apply', ...APP], env)
    channel.sendToQueue('courier_error', Buffer.from('{}'))
    await channel.unbindQueue('courier', 'courier', '')
    await channel.deleteExchange('courier')
    await channel.assertExchange('courier', 'fanout')
    const url = await (await postgresForTests()).createDatabase(t.name)
    await channel.deleteQueue('shipping')
    await channel.assertQueue('shipping', { arguments: { 'x-queue-type': 'classic' } })
    const { out } = await runCommand(['doctor', '--json', ...APP], { ...env, DATABASE_URL: url })
    const { findings, notes } = JSON.parse(out)
    t.match(notes, [/^PostgreSQL/, /^RabbitMQ \d+\.\d+/])
    const about = (what: string) => findings.filter((one: { about: string }) => one.about === what)
    t.match(about('queue courier_error'), [{ found: '1 dead letters wait in it' }])
    t.match(about('queue shipping'), [
      {
        found: /^it was declared otherwise: .*"x-queue-type":"classic"/,
        expected: /the dead-letter exchange shipping_error/
      }
    ])
    t.match(about('exchange courier'), [
      { found: 'it is not bound to the queue courier' },
      { found: 'nothing is bound to it', expected: /an endpoint that takes (Book|Cancel)Courier/ }
    ])
  }
)

t.test('a broker whose clock is 5 s off is found', async (t) => {
  const { env } = await newVhost(t)
  const { now } = Date
  t.teardown(() => (Date.now = now))
  Date.now = () => now() + 5000
  const { findings } = await examineBroker({
    url: env['RABBITMQ_URL']!,
    managementUrl: env['RABBITMQ_MANAGEMENT_URL']!,
    services,
    system: services
  })
  t.match(
    findings.filter(({ about }) => about === 'the broker'),
    [{ found: /^its clock is [456]\.\d s behind this machine's$/ }]
  )
})

t.test('a broker that is not there is exit code 3, and no password is said', async (t) => {
  const { code, err } = await runCommand(['topology', 'check', ...APP], {
    RABBITMQ_URL: 'amqp://guest:secret@127.0.0.1:1'
  })
  t.match({ code, err }, { code: 3, err: /^sagabox: .*ECONNREFUSED/ })
  t.notMatch(err, /secret/)
  t.match(await runCommand(['topology', 'check', ...APP]), {
    code: 2,
    err: /Expected RABBITMQ_URL/
  })
  t.match(await runCommand(['topology', 'check', ...APP], { RABBITMQ_URL: 'http://x:secret@y' }), {
    code: 2,
    err: /^sagabox: RABBITMQ_URL is no amqp:\/\/ or amqps:\/\/ URL\n/
  })
})
