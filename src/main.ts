import { parseArgs } from 'node:util'
import { resolve } from 'node:path'
import { pino } from 'pino'
import pretty from 'pino-pretty'
import { ConfigError, loadConfig, redeliverySeconds, type Config } from './config.ts'
import { FolderInUseError } from './embedded-postgres-lock.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from './embedded-postgres.ts'
import { seedProducts } from './seed.ts'
import { MemoryTransport } from './messaging/memory-transport.ts'
import { RabbitTransport } from './messaging/rabbitmq-transport.ts'
import type { Transport } from './messaging/transport.ts'
import { sagaboxTopology, SERVICE_NAMES, type ServiceName, type Settings } from './service.ts'
import { System } from './system.ts'
import { startWatchdog } from './watchdog.ts'

/** A terminal's Ctrl-C arrives twice under npm, from the terminal and from npm: this close together, ms, it is one. */
const SAME_SIGNAL_MS = 500

try {
  await main(await loadConfig(), requestedServices())
  // A connection that is still being tried must not keep a stopped process alive.
  process.exit(0)
} catch (error) {
  console.error(error instanceof ConfigError || error instanceof FolderInUseError ? `Sagabox cannot start.\n${error.message}` : error)
  process.exit(1)
}

async function main(config: Config, names: readonly ServiceName[]): Promise<void> {
  const base = names.length < SERVICE_NAMES.length ? { service: names.join('+') } : undefined
  // JSON for machines; a person at a terminal gets lines to read.
  const log = pino({ level: config.logLevel, base }, process.stdout.isTTY ? pretty({ sync: true, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss' }) : pino.destination())
  if (!config.rabbitmqUrl && names.length < SERVICE_NAMES.length) {
    throw new ConfigError(`RABBITMQ_URL: expected an amqp:// URL, because ${names.join(' and ')} alone can reach the other services only through a broker. Without one, start all three: npm start`)
  }
  const settings = settingsOf(config, names)
  const stop = onSignals()
  startWatchdog(config.blockedSeconds)
  const database = needsEmbedded(config, names) ? await startEmbeddedPostgres({ dataDir: resolve(config.dataDir), log: { info: (text) => log.info(text), error: (text) => log.error(text) } }) : undefined
  try {
    await run(config, names, settings, database, stop, log)
  } finally {
    await database?.stop()
  }
}

async function run(config: Config, names: readonly ServiceName[], settings: Settings, database: EmbeddedPostgres | undefined, stop: Promise<string>, log: pino.Logger): Promise<void> {
  const fallback = config.databaseUrl ?? database?.url ?? ''
  const system = await System.start({
    services: names,
    databaseUrls: { order: config.orderDatabaseUrl ?? fallback, stock: config.stockDatabaseUrl ?? fallback, payment: config.paymentDatabaseUrl ?? fallback },
    transport: openTransport(config.rabbitmqUrl, names, log),
    settings,
    host: config.host,
    port: config.port,
    app: { maxConnections: config.maxConnections, publicUrl: config.publicUrl },
    log
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EADDRINUSE') throw new ConfigError(`PORT: ${config.port} on ${config.host} is taken by another program; expected a free port`)
    throw error
  })
  void system.started().then(() => announce(system, database !== undefined)).catch((error: unknown) => log.error({ err: error }, 'Could not finish starting'))
  const cause = await Promise.race([stop, ...(database ? [database.endedByItself.then((reason) => new Error(`${reason}. Start Sagabox again: it will recover its data`))] : [])])
  log.info(`${cause instanceof Error ? cause.message : cause}: stopping`)
  setTimeout(() => {
    log.error(`Not stopped after ${config.stopGraceSeconds} s; ending as it is. Nothing is lost: what was not committed is redelivered`)
    process.exit(1)
  }, config.stopGraceSeconds * 1000).unref()
  await system.stop()
  if (cause instanceof Error) throw cause
  log.info('Stopped')
}

function settingsOf(config: Config, names: readonly ServiceName[]): Settings {
  const { orderDeadlineSeconds: deadlineSeconds, inboxDays, paymentGateway, stripeSecretKey: secretKey, stripeApiUrl: apiUrl } = config
  if (paymentGateway === 'stripe' && names.includes('payment') && !secretKey) {
    throw new ConfigError('STRIPE_SECRET_KEY: expected a secret key of Stripe, because PAYMENT_GATEWAY is stripe. Without one, pay with PAYMENT_GATEWAY=simulated')
  }
  return { deadlineSeconds, redeliverySeconds: redeliverySeconds(config), inboxDays, paymentGateway, ...(secretKey && { stripe: { secretKey, apiUrl } }) }
}

function openTransport(rabbitmqUrl: string | undefined, names: readonly ServiceName[], log: pino.Logger): Transport {
  const topology = sagaboxTopology()
  return rabbitmqUrl ? new RabbitTransport({ url: rabbitmqUrl, topology, clientName: `sagabox ${names.join('+')}`, log }) : new MemoryTransport(topology)
}

async function announce(system: System, embedded: boolean): Promise<void> {
  if (system.services.length < SERVICE_NAMES.length) return
  const seeded = embedded ? await seedProducts(system.service('stock').dataSource) : 0
  console.log(`
Sagabox is ready.${seeded > 0 ? ` ${seeded} sample products are on the shelf.` : ''}

  Address   ${system.url}
  API docs  ${system.url}/docs
  Products  ${system.url}/products

Place an order, then open the saga that it answers:

  curl -s ${system.url}/orders -H 'content-type: application/json' -d '{"customerId":"ada","items":[{"productId":"keyboard","quantity":1}],"paymentMethod":"pm_card_visa"}'
  curl -s '${system.url}/sagas?limit=1'
`)
}

/** Resolves at the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once. */
function onSignals(): Promise<string> {
  return new Promise((resolveSignal) => {
    let first: number | undefined
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (first === undefined) {
          first = Date.now()
          resolveSignal(signal)
        } else if (Date.now() - first > SAME_SIGNAL_MS) process.exit(130)
      })
    }
  })
}

/** No database given for any of the three services: they get one of their own. */
function needsEmbedded(config: Config, names: readonly ServiceName[]): boolean {
  const missing = names.filter((name) => !config.databaseUrl && !config[`${name}DatabaseUrl`])
  if (missing.length === SERVICE_NAMES.length) return true
  if (missing.length > 0) throw new ConfigError(`DATABASE_URL: expected a postgres:// URL for ${missing.join(' and ')} (or ${missing.map((name) => `${name.toUpperCase()}_DATABASE_URL`).join(' and ')})`)
  return false
}

function requestedServices(): ServiceName[] {
  const { positionals } = parseArgs({ allowPositionals: true })
  const unknown = positionals.filter((name) => !SERVICE_NAMES.includes(name as ServiceName))
  if (unknown.length > 0) throw new ConfigError(`Unknown service ${unknown.join(', ')}: expected any of ${SERVICE_NAMES.join(', ')}, or none for all`)
  return positionals.length > 0 ? SERVICE_NAMES.filter((name) => positionals.includes(name)) : [...SERVICE_NAMES]
}
