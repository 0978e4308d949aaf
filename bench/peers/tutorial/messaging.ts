import rascal, { type BrokerAsPromised } from 'rascal'
import { DataSource, IsNull, type EntityManager, type EntitySchema } from 'typeorm'
import { v7 as uuid } from 'uuid'
import { InboxEntity, OUTBOX_AND_INBOX, OutboxEntity } from './entities.ts'

const POLL_INTERVAL_MS = 1000
const BATCH_SIZE = 100

/** Which service consumes which event; each has a queue of its own. */
const SUBSCRIPTIONS = {
  stock: ['OrderCreatedEvent', 'ReleaseStock'],
  payment: ['StockReservedEvent'],
  order: [
    'StockNotReservedEvent',
    'PaymentCompletedEvent',
    'PaymentFailedEvent',
    'StockReleasedEvent'
  ]
}

const queues = Object.entries(SUBSCRIPTIONS).flatMap(([service, events]) =>
  events.map((event) => ({ name: `${service}.${event}`, event }))
)

export async function connectBroker(url: string): Promise<BrokerAsPromised> {
  const socketOptions = { timeout: 10_000, noDelay: true } // Rascal's types do not know noDelay
  const broker = await rascal.BrokerAsPromised.create(
    rascal.withDefaultConfig({
      vhosts: {
        '/': {
          connection: { url, socketOptions },
          exchanges: { shop: { type: 'topic', options: { durable: true } } },
          queues: Object.fromEntries(
            queues.map(({ name }) => [
              name,
              { options: { durable: true, arguments: { 'x-queue-type': 'quorum' } } }
            ])
          ),
          bindings: Object.fromEntries(
            queues.map(({ name, event }) => [
              name,
              { source: 'shop', destination: name, bindingKey: event }
            ])
          )
        }
      },
      publications: Object.fromEntries(
        queues.map(({ event }) => [
          event,
          {
            vhost: '/',
            exchange: 'shop',
            routingKey: event,
            confirm: true,
            options: { persistent: true }
          }
        ])
      ),
      subscriptions: Object.fromEntries(
        queues.map(({ name }) => [name, { vhost: '/', queue: name, prefetch: 10 }])
      )
    })
  )
  broker.on('error', (error) => console.error('Broker', error))
  return broker
}

/** A service's database, with its outbox and inbox. */
export async function connectDatabase(
  url: string,
  schema: string,
  entities: EntitySchema[]
): Promise<DataSource> {
  const dataSource = new DataSource({
    type: 'postgres',
    url,
    schema,
    entities: [...entities, OutboxEntity, InboxEntity]
  })
  await dataSource.initialize()
  await dataSource.transaction((manager) =>
    manager.query(`set local search_path = ${schema}; ${OUTBOX_AND_INBOX}`)
  )
  return dataSource
}

/** Records a message in the transaction that it belongs to. */
export async function addToOutbox(
  manager: EntityManager,
  type: string,
  payload: object
): Promise<void> {
  await manager.insert(OutboxEntity, { messageId: uuid(), type, payload })
}

export function startOutboxPublisher(
  dataSource: DataSource,
  broker: BrokerAsPromised
): () => Promise<void> {
  let running: Promise<void> | undefined
  const timer = setInterval(() => {
    running ??= publishOutbox(dataSource, broker)
      .catch((error: unknown) => console.error('Outbox', error))
      .finally(() => (running = undefined))
  }, POLL_INTERVAL_MS)
  return async () => {
    clearInterval(timer)
    await running
  }
}

async function publishOutbox(dataSource: DataSource, broker: BrokerAsPromised): Promise<void> {
  const outbox = dataSource.getRepository(OutboxEntity)
  const messages = await outbox.find({
    where: { publishedAt: IsNull() },
    order: { id: 'ASC' },
    take: BATCH_SIZE
  })
  for (const { id, messageId, type, payload } of messages) {
    const publication = await broker.publish(type, payload, { options: { messageId } })
    await new Promise((resolve, reject) => publication.on('success', resolve).on('error', reject))
    await outbox.update(id, { publishedAt: new Date() })
  }
}

/**
 * Hands each message of a queue to the handler; acknowledged when it is done, requeued a second
 * later when it failed.
 */
export async function subscribe(
  broker: BrokerAsPromised,
  queue: string,
  handle: (payload: never, messageId: string) => Promise<void>
): Promise<void> {
  const subscription = await broker.subscribe(queue)
  subscription.on('message', async (message, payload, ackOrNack) => {
    try {
      await handle(payload as never, message.properties.messageId as string)
      ackOrNack()
    } catch (error) {
      console.error(queue, error)
      ackOrNack(error as Error, { strategy: 'nack', requeue: true, defer: 1000 })
    }
  })
  subscription.on('error', (error) => console.error(queue, error))
}

/** Does the work and remembers the message in one transaction, unless it was done before. */
export async function once(
  dataSource: DataSource,
  messageId: string,
  work: (manager: EntityManager) => Promise<void>
): Promise<void> {
  await dataSource.transaction(async (manager) => {
    if (await manager.existsBy(InboxEntity, { messageId })) return
    await work(manager)
    await manager.insert(InboxEntity, { messageId })
  })
}
