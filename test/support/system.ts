import type { FastifyBaseLogger } from 'fastify'
import type { Test } from 'tap'
import { pino } from 'pino'
import { MemoryTransport } from '../../packages/sagabox/src/messaging/transport/memory.ts'
import { RabbitTransport } from '../../packages/sagabox/src/messaging/rabbitmq/transport.ts'
import type { AppOptions } from '../../packages/sagabox/src/http/app.ts'
import type { MigrateMode } from '../../packages/sagabox/src/messaging/postgres/migrate.ts'
import type { Transport } from '../../packages/sagabox/src/messaging/transport/transport.ts'
import type { ServiceSettings } from '../../packages/sagabox/src/service/service.ts'
import {
  SERVICE_NAMES,
  shop,
  shopTopology,
  type ServiceName,
  type ShopSettings
} from '../../src/shop.ts'
import { System } from '../../packages/sagabox/src/service/system.ts'
import type { WatchedSaga, Watched } from '../../packages/sagabox/src/testing/settled.ts'
import type { WatchedTransport } from '../../packages/sagabox/src/testing/watched-transport.ts'
import { postgresForTests } from './postgres.ts'
import { rabbitmqForTests } from './rabbitmq.ts'
import { Api } from './api.ts'
import type { ConsoleOptions } from '../../packages/sagabox/src/console/routes.ts'
import type { Access } from '../../packages/sagabox/src/access/access.ts'
import { goPlainAsTold } from './quick-ways.ts'

goPlainAsTold()

export type TransportName = 'memory' | 'rabbitmq'

type Settings = ShopSettings & ServiceSettings

const TEST_SETTINGS: Settings = {
  deadlineSeconds: 30,
  redeliverySeconds: [5, 30, 300],
  inboxDays: 7,
  paymentGateway: 'simulated'
}

export interface TestSystem {
  system: System
  api: Api
  databaseUrl: string
}

/** TEST_LOG_LEVEL=info shows what the system says. */
export const testLog = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' })

export interface TestSystemOptions {
  services?: ServiceName[]
  settings?: Partial<Settings>
  /** Stands between the system and its transport. */
  wrap?(transport: Transport): Transport
  /** Another system's, to run beside it. */
  databaseUrl?: string
  rabbitmqUrl?: string
  migrate?: MigrateMode
  log?: FastifyBaseLogger
  app?: AppOptions
  access?: Access
  operators?: { host: string; port: number }
  console?: ConsoleOptions
  peers?: Readonly<Record<string, string>>
}

/**
 * The whole system in this process, with a database (and a virtual host) of its own; torn down with
 * the test.
 */
export async function startSystem(
  t: Test,
  transportName: TransportName,
  options: TestSystemOptions = {}
): Promise<TestSystem> {
  const databaseUrl = options.databaseUrl ?? (await (await postgresForTests()).createShop())
  const transport = await openTransport(transportName, options)
  const settings = { ...TEST_SETTINGS, ...options.settings }
  const services = shop(settings)
  const system = await System.start({
    services: (options.services ?? SERVICE_NAMES).map((name) => services[name]),
    databaseUrls: { order: databaseUrl, stock: databaseUrl, payment: databaseUrl },
    transport: options.wrap?.(transport) ?? transport,
    settings,
    migrate: options.migrate,
    host: '127.0.0.1',
    port: 0,
    log: options.log ?? testLog,
    app: options.app,
    access: options.access,
    operators: options.operators,
    console: options.console,
    peers: options.peers
  })
  t.teardown(() => system.stop())
  await system.started()
  return { system, api: new Api(system.url), databaseUrl }
}

/** Where the sagas of orders are kept. */
export function orderSagas(system: System): WatchedSaga {
  return { database: system.service('order').database, name: 'order' }
}

/** All that has to be quiet before a system has settled. */
export function watched(system: System, transport: WatchedTransport): Watched {
  return {
    transport,
    outboxes: system.services.map(({ database }) => database),
    sagas: [orderSagas(system)]
  }
}

async function openTransport(
  name: TransportName,
  { services, rabbitmqUrl }: TestSystemOptions
): Promise<Transport> {
  const topology = shopTopology(services)
  if (name === 'memory') return new MemoryTransport(topology)
  const url = rabbitmqUrl ?? (await (await rabbitmqForTests()).createVhost())
  return new RabbitTransport({ url, topology, clientName: 'sagabox test', log: testLog })
}
