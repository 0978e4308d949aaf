// Services of somebody's own, run by startSagabox: sagas that a message starts, and several of them.
import { randomUUID } from 'node:crypto'
import {
  contracts,
  defineSaga,
  defineService,
  handle,
  NotRetryable,
  startSagabox,
  Type,
  type Sagabox,
  type ServiceDefinition
} from 'sagabox'
import t, { type Test } from 'tap'
import { latch } from '../../../../test/support/latch.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'
import { QUICK_WAYS } from '../../src/quick-ways.ts'

const Id = Type.String({ format: 'uuid' })
const zoo = contracts('zoo', { correlateBy: 'animalId', namespace: 'Zoo.Contracts' })
const vet = contracts('vet', { correlateBy: 'animalId' })
const AnimalArrived = zoo.event('AnimalArrived', { animalId: Id, kind: Type.String() })
const Fed = zoo.event('Fed', { animalId: Id, meal: Type.String() })
const Examine = vet.command('Examine', { animalId: Id })
const Examined = vet.event('Examined', { animalId: Id, healthy: Type.Boolean() })

const arrival = defineSaga(
  'arrival',
  { startedBy: AnimalArrived, handles: [Examined] },
  ({ send }) => ({
    initial: 'waiting',
    states: {
      waiting: {
        entry: send(Examine, ({ animalId }) => ({ animalId })),
        on: { Examined: 'ready' },
        after: { '1h': 'forgotten' }
      },
      ready: { tags: 'end', on: { '*': {} } },
      forgotten: { tags: 'end', on: { '*': {} } }
    }
  })
)

/** It takes an event that the other saga takes, too, and is started by an event of its own. */
const feeding = defineSaga(
  'feeding',
  {
    startedBy: Fed,
    handles: [Examined, AnimalArrived],
    context: ({ animalId }) => ({ animalId, meals: 1 })
  },
  ({ set }) => ({
    initial: 'fed',
    states: {
      fed: {
        on: {
          Examined: { actions: set(({ meals }) => ({ meals: meals + 1 })) },
          AnimalArrived: 'done'
        },
        after: { '1h': 'done' }
      },
      done: { tags: 'end', on: { '*': {} } }
    }
  })
)

const clinic = defineService('vet', {
  handlers: [handle(Examine, ({ animalId }) => Examined({ animalId, healthy: true }))]
})

async function open(
  t: Test,
  broker: boolean,
  services: ServiceDefinition[],
  redeliverySeconds = [0.2, 0.2, 0.2]
): Promise<Sagabox> {
  const app = await startSagabox({
    services,
    databaseUrl: await (await postgresForTests()).createDatabase(),
    ...(broker && { rabbitmqUrl: await (await rabbitmqForTests()).createVhost() }),
    settings: { redeliverySeconds },
    signals: false
  })
  t.teardown(() => app.stop())
  return app
}

for (const broker of [false, true]) {
  const where = broker ? 'over RabbitMQ' : 'in memory'

  t.test(`a saga is started by its message, once, ${where}`, async (t) => {
    const app = await open(t, broker, [defineService('zoo', { sagas: [arrival] }), clinic])
    const animalId = randomUUID()
    const arrived = AnimalArrived({ animalId: animalId.toUpperCase(), kind: 'owl' })
    await app.publish(arrived)
    const { state, history } = await app.ended(arrival, animalId)
    t.equal(state, 'ready')
    t.same(
      history.map(({ event }) => event),
      ['AnimalArrived', 'Examined']
    )
    // The first again, in the sender's eyes: another message that says the same.
    await app.publish(AnimalArrived({ animalId, kind: 'owl' }))
    const another = randomUUID()
    await app.publish(AnimalArrived({ animalId: another, kind: 'cat' }))
    await app.ended(arrival, another)
    const { items } = (await (await fetch(`${app.url}/sagas`)).json()) as { items: object[] }
    t.equal(items.length, 2)
    t.match(await (await fetch(`${app.url}/sagas/arrival/${animalId}`)).json(), {
      state: 'ready',
      version: 2
    })
  })

  t.test(`an event that overtakes its start waits for it, ${where}`, async (t) => {
    const app = await open(t, broker, [defineService('zoo', { sagas: [arrival] }), clinic])
    const animalId = randomUUID()
    const { database } = app.service('zoo')
    await app.publish(Examined({ animalId, healthy: true }))
    await until('it waits', async () => {
      const [row] = await database.rows(
        `select count(*)::integer as waiting from outbox where due_at is not null`
      )
      return row.waiting > 0
    })
    await app.publish(AnimalArrived({ animalId, kind: 'owl' }))
    t.equal((await app.ended(arrival, animalId)).state, 'ready')
    t.same(await database.rows('select id from dead_letter'), [])
  })

  t.test(`what is never started becomes a dead letter in the end, ${where}`, async (t) => {
    const services = [defineService('zoo', { sagas: [arrival] }), clinic]
    const app = await open(t, broker, services, [0.1])
    await app.publish(Examined({ animalId: randomUUID(), healthy: true }))
    const letters = await until('a letter', async () => {
      const rows = await app.service('zoo').database.rows('select exception from dead_letter')
      return rows.length > 0 && rows
    })
    t.match(letters, [{ exception: 'NotStartedYet' }])
  })

  t.test(`two sagas of a service may take the same event, ${where}`, async (t) => {
    const app = await open(t, broker, [defineService('zoo', { sagas: [arrival, feeding] }), clinic])
    const animalId = randomUUID()
    await app.publish(Fed({ animalId, meal: 'mice' }))
    await until('it is fed', async () => {
      const answer = await fetch(`${app.url}/sagas/feeding/${animalId}`)
      return answer.ok
    })
    await app.publish(AnimalArrived({ animalId, kind: 'owl' }))
    t.equal((await app.ended(arrival, animalId)).state, 'ready')
    t.match(await app.ended(feeding, animalId), { state: 'done', context: { animalId } })
    const sagas = (await (await fetch(`${app.url}/sagas/definitions`)).json()) as object
    t.match(sagas, { items: [{ name: 'arrival' }, { name: 'feeding' }] })
    t.equal((await fetch(`${app.url}/sagas`)).status, 404, 'each has a place of its own')
  })
}

t.test('a type of another namespace has its exchange and URN', async (t) => {
  t.equal(AnimalArrived.name, 'AnimalArrived')
  t.equal(AnimalArrived.urn, 'urn:message:Zoo.Contracts:AnimalArrived')
  t.equal(AnimalArrived.exchange, 'Zoo.Contracts:AnimalArrived')
})

t.test('what cannot be run says so where it is written', async (t) => {
  t.throws(
    () => defineService('Zoo Keepers', {}),
    /Service Zoo Keepers: expected a name of lower case letters/
  )
  const examine = handle(Examine, () => {})
  t.throws(
    () => defineService('vet', { handlers: [examine, examine] }),
    /Service vet: two of its handlers take Examine/
  )
  t.throws(
    () =>
      defineSaga('x', { startedBy: Fed, handles: [] }, () => ({
        initial: 'a',
        states: { a: { after: { soon: 'b' } }, b: { tags: 'end' } }
      })),
    /"soon" is no duration/
  )
  const services = [clinic]
  const system = [clinic, defineService('zoo', { sagas: [arrival] })]
  await t.rejects(
    startSagabox({ services, system, databaseUrl: 'postgres://localhost/x' }),
    /rabbitmqUrl: expected an amqp:\/\/ URL, because zoo run/
  )
})

t.test('the libraries that are installed are as the quick ways expect', async (t) => {
  for (const way of QUICK_WAYS) t.ok(way.isOpen || way.isSwitchedOff, way.name)
})

t.test(
  'what a handler commits while its process stops is sent, for nobody may follow',
  async (t) => {
    const [holding, released] = [latch(), latch()]
    const slow = defineService('vet', {
      handlers: [
        handle(Examine, async ({ animalId }) => {
          holding.open()
          await released.opened
          return Examined({ animalId, healthy: true })
        })
      ]
    })
    const databaseUrl = await (await postgresForTests()).createDatabase('stops')
    const broker = await rabbitmqForTests()
    const rabbitmqUrl = await broker.createVhost()
    t.teardown(() => broker.deleteVhost(rabbitmqUrl))
    const heard: string[] = []
    const listener = defineService('keeper', {
      handlers: [handle(Examined, async ({ animalId }) => void heard.push(animalId))]
    })
    const services = [slow, listener]
    const start = (service: ServiceDefinition) =>
      startSagabox({ services: [service], system: services, databaseUrl, rabbitmqUrl })
    const keeper = await start(listener)
    t.teardown(() => keeper.stop())
    const app = await start(slow)
    const animalId = randomUUID()
    await app.publish(Examine({ animalId }))
    await holding.opened
    const stopped = app.stop()
    const { database } = keeper.service('keeper')
    await until('the endpoint takes no more', async () =>
      (await broker.queues(rabbitmqUrl)).some(
        ({ name, consumers }) => name === 'vet' && consumers === 0
      )
    )
    released.open()
    await stopped
    const { rows } = await database.query('select from vet_service.outbox')
    t.equal(rows.length, 0)
    await until('it is heard', async () => heard.length === 1)
  }
)

t.test('why a command of a saga could not be carried out shows on its instance', async (t) => {
  class NoVet extends NotRetryable {}
  const refusing = defineService('vet', {
    handlers: [
      handle(Examine, async () => {
        throw new NoVet('The vet has retired')
      })
    ]
  })
  const app = await startSagabox({
    services: [defineService('zoo', { sagas: [arrival] }), refusing],
    databaseUrl: await (await postgresForTests()).createDatabase('refusing')
  })
  t.teardown(() => app.stop())
  const animalId = randomUUID()
  await app.publish(AnimalArrived({ animalId, kind: 'owl' }))
  const saga = await until('it shows', async () => {
    const response = await fetch(`${app.url}/sagas/arrival/${animalId}`)
    const { waitingFor } = (await response.json()) as { waitingFor?: { lastError?: object } }
    return waitingFor?.lastError ?? undefined
  })
  t.match(saga, {
    type: 'Examine',
    message: /^Fault<Examine>: NotRetryable: The vet has retired \(node on \S+\)$/
  })
})
