import t from 'tap'
import { RabbitTransport } from '../../packages/sagabox/src/messaging/rabbitmq/transport.ts'
import { until } from '../support/until.ts'
import {
  OrderCompletedEvent,
  OrderCreatedEvent,
  OrderFailedEvent
} from '../../src/contracts/order.ts'
import { rascalConfig, VHOST } from '../../packages/sagabox/src/messaging/rabbitmq/rascal-config.ts'
import { topologyOf } from '../../packages/sagabox/src/messaging/transport/topology.ts'
import { shopTopology } from '../../src/shop.ts'

const TYPES = [
  'Contracts:OrderCreatedEvent',
  'Contracts:OrderCompletedEvent',
  'Contracts:OrderFailedEvent',
  'Contracts:StockReservedEvent',
  'Contracts:StockNotReservedEvent',
  'Contracts:StockReleasedEvent',
  'Contracts:ReleaseStock',
  'Contracts:PaymentCompletedEvent',
  'Contracts:PaymentFailedEvent',
  'Contracts:PaymentRefundedEvent',
  'Contracts:RefundPayment'
]
const ENDPOINTS = ['order', 'stock', 'payment']

/** Type exchange -> endpoint exchange. */
const TAKEN = [
  'Contracts:OrderCreatedEvent -> exchange stock',
  'Contracts:ReleaseStock -> exchange stock',
  'Contracts:StockReservedEvent -> exchange payment',
  'Contracts:RefundPayment -> exchange payment',
  'Contracts:StockReservedEvent -> exchange order',
  'Contracts:StockNotReservedEvent -> exchange order',
  'Contracts:StockReleasedEvent -> exchange order',
  'Contracts:PaymentCompletedEvent -> exchange order',
  'Contracts:PaymentFailedEvent -> exchange order',
  'Contracts:PaymentRefundedEvent -> exchange order'
]

/** Of what the order saga waits for. */
const FAULTS_TAKEN = [
  'OrderCreatedEvent',
  'StockReservedEvent',
  'ReleaseStock',
  'PaymentCompletedEvent',
  'RefundPayment'
].map((name) => `MassTransit:Fault--Contracts:${name}-- -> exchange order`)

/** Of each message that somebody takes. */
const FAULTS = [...new Set(TAKEN.map((name) => `MassTransit:Fault--${name.split(' ')[0]}--`))]

t.test('the topology of order, stock and payment', async (t) => {
  const { exchanges, queues, bindings } = shopTopology()
  t.same(
    exchanges.toSorted(),
    [
      ...TYPES,
      ...FAULTS,
      'MassTransit:Fault',
      ...ENDPOINTS.flatMap((name) => [name, `${name}_error`, `${name}_skipped`])
    ].toSorted()
  )
  t.same(
    queues,
    ENDPOINTS.flatMap((name) => [
      { name, deadLetterExchange: `${name}_error` },
      { name: `${name}_error` },
      { name: `${name}_skipped` }
    ])
  )
  const own = ENDPOINTS.flatMap((name) => [
    `${name} -> queue ${name}`,
    `${name}_error -> queue ${name}_error`,
    `${name}_skipped -> queue ${name}_skipped`
  ])
  const faults = FAULTS.map((fault) => `${fault} -> exchange MassTransit:Fault`)
  t.same(
    bindings
      .map(
        ({ source, destination, destinationType }) =>
          `${source} -> ${destinationType} ${destination}`
      )
      .toSorted(),
    [...TAKEN, ...FAULTS_TAKEN, ...own, ...faults].toSorted()
  )
})

t.test(
  'an exchange is declared for what nobody takes, so that publishing it closes no channel',
  async (t) => {
    t.same(topologyOf([], [OrderCreatedEvent, OrderCompletedEvent, OrderFailedEvent]), {
      exchanges: [
        'Contracts:OrderCreatedEvent',
        'Contracts:OrderCompletedEvent',
        'Contracts:OrderFailedEvent'
      ],
      queues: [],
      bindings: [],
      elsewhere: [],
      foreign: []
    })
  }
)

t.test(
  "a process declares its own services' endpoints, and knows what the others take",
  async (t) => {
    const { exchanges, queues, bindings, elsewhere } = shopTopology(['stock'])
    t.same(
      queues.map(({ name }) => name),
      ['stock', 'stock_error', 'stock_skipped']
    )
    t.same(
      exchanges.filter((name) => /^(order|payment)/.test(name)),
      [],
      'nothing is sent to their endpoints'
    )
    t.same(
      bindings.filter(({ destination }) => /^(order|payment)/.test(destination)),
      []
    )
    const taken = Object.fromEntries(
      elsewhere.map(({ endpoint, takes }) => [endpoint, takes.toSorted()])
    )
    t.same(taken, {
      order: [
        'Contracts:StockNotReservedEvent',
        'Contracts:StockReleasedEvent',
        'Contracts:StockReservedEvent',
        'MassTransit:Fault--Contracts:OrderCreatedEvent--',
        'MassTransit:Fault--Contracts:ReleaseStock--'
      ],
      payment: ['Contracts:StockReservedEvent']
    })

    const order = shopTopology(['order'])
    t.same(order.elsewhere, [
      { endpoint: 'stock', takes: ['Contracts:OrderCreatedEvent', 'stock'] },
      { endpoint: 'payment', takes: ['payment'] }
    ])
    t.ok(
      ['stock', 'payment'].every((name) => order.exchanges.includes(name)),
      'the exchanges of commands that it sends'
    )

    const all = shopTopology(['order'], 'all')
    t.same(all, shopTopology(), 'TOPOLOGY=all')
    t.same(all.elsewhere, [])
    t.same(all.queues.length, 9)
  }
)

t.test("Rascal's configuration, whole, for one endpoint", async (t) => {
  const config = rascalConfig(
    topologyOf([{ name: 'stock', consumes: [OrderCreatedEvent] }], [OrderCreatedEvent]),
    'amqp://guest:guest@localhost/',
    'sagabox stock'
  )
  const fanout = { assert: true, type: 'fanout', options: { durable: true } }
  const retry = { min: 500, max: 5000, factor: 2, strategy: 'exponential' }
  t.same(config, {
    vhosts: {
      [VHOST]: {
        connection: {
          url: 'amqp://guest:guest@localhost/',
          retry,
          options: { heartbeat: 10 },
          socketOptions: {
            timeout: 10_000,
            noDelay: true,
            writableHighWaterMark: 1_048_576,
            clientProperties: { connection_name: 'sagabox stock' }
          }
        },
        publicationChannelPools: {
          regularPool: { min: 0, max: 1 },
          confirmPool: { min: 0, max: 1 }
        },
        exchanges: {
          'Contracts:OrderCreatedEvent': fanout,
          stock: fanout,
          stock_error: fanout,
          stock_skipped: fanout,
          'MassTransit:Fault--Contracts:OrderCreatedEvent--': fanout,
          'MassTransit:Fault': fanout
        },
        queues: {
          stock: {
            assert: true,
            options: {
              durable: true,
              arguments: {
                'x-queue-type': 'quorum',
                'x-delivery-limit': 100,
                'x-dead-letter-exchange': 'stock_error',
                'x-dead-letter-strategy': 'at-least-once',
                'x-overflow': 'reject-publish'
              }
            }
          },
          stock_error: {
            assert: true,
            options: {
              durable: true,
              arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 }
            }
          },
          stock_skipped: {
            assert: true,
            options: {
              durable: true,
              arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 }
            }
          }
        },
        bindings: {
          'stock -> queue stock': {
            source: 'stock',
            destination: 'stock',
            destinationType: 'queue',
            bindingKey: ''
          },
          'stock_error -> queue stock_error': {
            source: 'stock_error',
            destination: 'stock_error',
            destinationType: 'queue',
            bindingKey: ''
          },
          'stock_skipped -> queue stock_skipped': {
            source: 'stock_skipped',
            destination: 'stock_skipped',
            destinationType: 'queue',
            bindingKey: ''
          },
          'MassTransit:Fault--Contracts:OrderCreatedEvent-- -> exchange MassTransit:Fault': {
            source: 'MassTransit:Fault--Contracts:OrderCreatedEvent--',
            destination: 'MassTransit:Fault',
            destinationType: 'exchange',
            bindingKey: ''
          },
          'Contracts:OrderCreatedEvent -> exchange stock': {
            source: 'Contracts:OrderCreatedEvent',
            destination: 'stock',
            destinationType: 'exchange',
            bindingKey: ''
          }
        }
      }
    }
  })
})

t.test('all three services: every exchange, queue and binding is there', async (t) => {
  const config = rascalConfig(shopTopology(), 'amqp://localhost/', 'sagabox')
  const { exchanges, queues, bindings } = config.vhosts[VHOST]
  t.equal(Object.keys(exchanges).length, TYPES.length + FAULTS.length + 1 + 3 * ENDPOINTS.length)
  t.ok(TAKEN.every((name) => name in bindings))
  t.equal(
    Object.keys(bindings).length,
    TAKEN.length + FAULTS_TAKEN.length + FAULTS.length + 3 * ENDPOINTS.length,
    'no two bindings share a name'
  )
  t.same(
    Object.keys(queues),
    ENDPOINTS.flatMap((name) => [name, `${name}_error`, `${name}_skipped`])
  )
})

t.test('what is said of a broker that is away shows no part of a password', async (t) => {
  const said: string[] = []
  const log = {
    debug() {},
    info() {},
    error() {},
    warn: (fields: object) => void said.push(JSON.stringify(fields))
  }
  const transport = new RabbitTransport({
    url: 'amqp://user:SECRET%3ASECRET@127.0.0.1:1/shop?password=SECRET',
    topology: topologyOf([], []),
    clientName: 'test',
    log
  })
  transport.start(() => {})
  await until('it has complained', async () => said.length > 0)
  t.match(said[0], /rabbitmq:\/\/127\.0\.0\.1:1\/shop\/.*ECONNREFUSED/)
  t.notMatch(`${said.join()} ${transport.problem()}`, /SECRET/)
  await transport.stop()
})
