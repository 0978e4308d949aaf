// Names of one's own: namespaces, urns, exchanges, queues, and endpoints outside of the system.
import { randomUUID } from 'node:crypto'
import {
  contracts,
  defineService,
  foreign,
  handle,
  startSagabox,
  systemTopology,
  Type,
  type Sagabox
} from 'sagabox'
import t, { type Test } from 'tap'
import { OrderCreated, ReleaseStock, services } from '../../../../docs/examples/names.ts'
import { foreignChannel } from '../../../../test/support/masstransit.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'

t.setTimeout(120_000)

async function open(t: Test, rabbitmqUrl?: string): Promise<Sagabox> {
  const app = await startSagabox({
    services,
    databaseUrl: await (await postgresForTests()).createDatabase(),
    ...(rabbitmqUrl && { rabbitmqUrl }),
    settings: { redeliverySeconds: [] },
    signals: false
  })
  t.teardown(() => app.stop())
  return app
}

const rowsOf = (app: Sagabox, service: string, table: string): Promise<object[]> =>
  app.service(service).database.rows(`select * from ${table}`)

for (const broker of [false, true]) {
  t.test(`a service has several queues, ${broker ? 'over RabbitMQ' : 'in memory'}`, async (t) => {
    const rabbitmq = broker ? await rabbitmqForTests() : undefined
    const url = await rabbitmq?.createVhost()
    if (url) t.teardown(() => rabbitmq!.deleteVhost(url))
    const app = await open(t, url)
    const orderId = randomUUID()
    await app.publish(OrderCreated({ orderId, product: 'lamp' }))
    if (rabbitmq && url) {
      const ready = async () => (await fetch(`${app.url}/health/ready`)).text()
      await until('it waits for who takes it outside', async () =>
        (await ready()).includes('waiting for endpoint invoices')
      )
      t.same(await rowsOf(app, 'depot', 'reserved'), [])
      const channel = await foreignChannel(t, url)
      await channel.assertExchange('invoices', 'fanout')
      await channel.assertQueue('invoices')
      await until(
        'it has come',
        async () => (await channel.checkQueue('invoices')).messageCount > 0
      )
      const got = await channel.get('invoices')
      t.same(JSON.parse((got && got.content.toString()) || '{}').messageType, [
        'urn:message:Acme.Sales.Contracts:OrderCreated'
      ])
      const queues = (await rabbitmq.queues(url))
        .map(({ name }) => name)
        .filter((name) => !name.includes('_'))
      t.same(queues.toSorted(), ['invoices', 'order-created', 'release-stock', 'sales'])
      await channel.checkExchange('stock-released')
    }
    await until('it is reserved', async () => (await rowsOf(app, 'depot', 'reserved')).length === 1)
    await app.publish(OrderCreated({ orderId, product: 'a second one' }))
    await until('that is a dead letter of its queue', async () => {
      const letters = (await (await fetch(`${app.url}/ops/depot/dead-letters`)).json()) as {
        items: { endpoint: string; id: number }[]
      }
      return letters.items[0]?.endpoint === 'order-created'
    })
    await app.publish(ReleaseStock({ orderId }))
    await until('it is released', async () => (await rowsOf(app, 'sales', 'noted')).length === 1)
    t.same(await rowsOf(app, 'depot', 'reserved'), [])
    const retried = await fetch(`${app.url}/ops/depot/dead-letters/1/retry`, { method: 'POST' })
    t.equal(retried.status, 202)
    await until(
      'the letter is handled',
      async () => (await rowsOf(app, 'depot', 'reserved')).length === 1
    )
  })
}

const fields = { id: Type.String() }
const port = contracts('port', { correlateBy: 'id' })
const Docked = port.event('Docked', fields)
const Weather = foreign('Weather', { exchange: 'w', type: 'topic', fields })

t.test('services that cannot be run are refused where they are written', async (t) => {
  const taking = (...handled: (typeof Docked | typeof Weather)[]) =>
    handled.map((contract) => handle(contract as typeof Docked, () => {}))
  const service = (
    queues: Record<string, readonly (typeof Docked)[]>,
    ...handled: Parameters<typeof taking>
  ) => defineService('harbour', { handlers: taking(...handled), queues })
  t.throws(() => service({ x: [Docked] }), {
    message: /queue x names Docked, which it has no handler for/
  })
  t.throws(() => service({ x: [Docked], y: [Docked] }, Docked), {
    message: /Docked is in two of its queues/
  })
  t.throws(() => service({ 'a b': [Docked] }, Docked), { code: 'INVALID_CONTRACT' })
  t.throws(() => service({ x: [Docked, Weather as never] }, Docked, Weather), {
    message: /Weather has no envelope to be told by, and its queue x takes others/
  })
  const Dock = port.command('Dock', fields, { queue: 'dock' })
  const dock = () =>
    defineService('port', { handlers: [handle(Dock, () => {})], queues: { x: [Dock] } })
  t.throws(dock, { message: /Dock goes to dock, and not to x/ })
  t.throws(() => service({}, Docked, port.event('Docked', fields)), {
    message: /two of its handlers take Docked/
  })
})

t.test(
  'two contracts of one urn, or of one exchange of others, agree or are refused',
  async (t) => {
    const topology = (...taken: (typeof Docked)[]) =>
      systemTopology(
        taken.map((contract, index) =>
          defineService(`harbour-${index}`, { handlers: [handle(contract, () => {})] })
        )
      )
    t.ok(topology(Docked, port.event('Docked', fields)), 'the same twice is one')
    const wider = port.event('Docked', { ...fields, tons: Type.Integer() })
    t.throws(() => topology(Docked, wider as never), {
      code: 'INVALID_CONTRACT',
      message:
        /^Two contracts of the system are urn:message:Contracts:Docked, .* and differ in their schema/
    })
    const other = contracts('quay', { correlateBy: 'id' }).event('Docked', fields)
    t.throws(() => topology(Docked, other), { message: /differ in their owner/ })
    const direct = foreign('Storm', { exchange: 'w', type: 'direct', fields })
    t.throws(() => topology(Weather as never, direct as never), {
      message: /exchange w is of type topic in one contract, and of type direct in another/
    })
  }
)
