// A system that listens to somebody else's exchange, which may be missing or another than expected.
import { startSagabox, type Sagabox } from 'sagabox'
import t, { type Test } from 'tap'
import {
  clearance,
  ParcelCleared,
  ParcelReleased,
  ParcelScanned,
  services
} from '../../../../docs/examples/foreign-events.ts'
import { foreignChannel } from '../../../../test/support/masstransit.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'

t.setTimeout(120_000)

const EXCHANGE = 'courier.events'

async function open(t: Test, rabbitmqUrl?: string): Promise<Sagabox> {
  const app = await startSagabox({
    services,
    databaseUrl: await (await postgresForTests()).createDatabase(),
    ...(rabbitmqUrl && { rabbitmqUrl }),
    signals: false
  })
  t.teardown(() => app.stop())
  return app
}

async function readiness(app: Sagabox) {
  const response = await fetch(`${app.url}/health/ready`)
  return { status: response.status, text: await response.text() }
}

async function released(app: Sagabox): Promise<string[]> {
  const rows: { parcel: string }[] = await app
    .service('depot')
    .database.rows('select parcel from released')
  return rows.map(({ parcel }) => parcel)
}

t.test('in memory the exchange is there, and what is sent to it comes back', async (t) => {
  const app = await open(t)
  await app.publish(ParcelScanned({ parcel: 'P/1', depot: 'x' }))
  await until(
    'the saga has begun',
    async () => (await fetch(`${app.url}/sagas/clearance/P%2F1`)).ok
  )
  await app.publish(ParcelCleared({ parcel: 'P/1' }))
  t.equal((await app.ended(clearance, 'P/1')).state, 'released')
  await until('the depot knows', async () => (await released(app)).length === 1)
  t.match(await readiness(app), { status: 200 })
})

t.test(
  'an exchange that is not there, or of another type, keeps back only what is its',
  async (t) => {
    const broker = await rabbitmqForTests()
    const url = await broker.createVhost()
    t.teardown(() => broker.deleteVhost(url))
    const app = await open(t, url)
    const noted = async (text: string) =>
      until(text, async () => (await readiness(app)).text.includes(text))
    await noted(`exchange ${EXCHANGE} is not there`)
    t.equal((await readiness(app)).status, 200, 'the services work')
    // What is ours goes on; what goes there waits.
    await app.publish(ParcelReleased({ parcel: 'P1', depot: 'x' }))
    await app.publish(ParcelCleared({ parcel: 'nobody' }))
    await until('what is ours has left', async () => {
      const rows: { destination: string }[] = await app
        .service('customs')
        .database.rows('select destination from outbox where put_off is null and due_at is null')
      return rows.every(({ destination }) => destination !== 'Contracts:ParcelCleared')
    })
    const theirs = await foreignChannel(t, url)
    await theirs.assertExchange(EXCHANGE, 'fanout')
    await noted(`exchange ${EXCHANGE} is of type fanout; expected topic`)
    t.same(await released(app), [])
    await theirs.deleteExchange(EXCHANGE)
    // In another way than we would: that is theirs to say.
    await theirs.assertExchange(EXCHANGE, 'topic', { durable: false, autoDelete: false })
    await until('it is used', async () => !(await readiness(app)).text.includes(EXCHANGE))
    await until('what waited has come', async () => (await released(app)).includes('P1'))
    const scanned = Buffer.from(JSON.stringify({ parcel: 'P2', depot: 'y', weight: { kg: 3 } }))
    theirs.publish(EXCHANGE, 'parcel.scanned.y', scanned, {})
    theirs.publish(EXCHANGE, 'parcel.scanned.y', Buffer.from('{"parcel":2}'), {})
    await theirs.waitForConfirms()
    await until('the saga has begun', async () => (await fetch(`${app.url}/sagas/clearance/P2`)).ok)
    await app.publish(ParcelCleared({ parcel: 'P2' }))
    await app.ended(clearance, 'P2')
    await until('the depot knows', async () => (await released(app)).includes('P2'))
    const letters = (await (await fetch(`${app.url}/ops/customs/dead-letters`)).json()) as object
    t.match(letters, {
      items: [{ type: 'ParcelScanned', endpoint: 'customs-parcel-scanned', reason: /body/ }]
    })
  }
)

t.test('what goes there has no envelope, an id, and a key', async (t) => {
  const broker = await rabbitmqForTests()
  const url = await broker.createVhost()
  t.teardown(() => broker.deleteVhost(url))
  const theirs = await foreignChannel(t, url)
  await theirs.assertExchange(EXCHANGE, 'topic')
  await theirs.assertQueue('tap')
  await theirs.bindQueue('tap', EXCHANGE, '#')
  const app = await open(t, url)
  const sent = ParcelReleased({ parcel: 'P1', depot: 'west.3' })
  await app.publish(sent)
  await until('it is there', async () => (await theirs.checkQueue('tap')).messageCount > 0)
  const got = await theirs.get('tap')
  t.match(got, {
    fields: { routingKey: 'parcel.released.west.3', exchange: EXCHANGE },
    properties: {
      contentType: 'application/json',
      messageId: sent.messageId,
      deliveryMode: 2
    }
  })
  t.equal(got && got.content.toString(), '{"parcel":"P1","depot":"west.3"}')
  await until('the depot knows', async () => (await released(app)).includes('P1'))
})
