// oxlint-disable-next-line import/no-unassigned-import -- it ends the process, or does nothing
import './node-version.ts'
// oxlint-disable-next-line import/no-unassigned-import -- it has to run before pg is loaded
import './shell.ts'
import { resolve } from 'node:path'
import { pino } from 'pino'
import pretty from 'pino-pretty'
import {
  Access,
  type AccessOptions,
  becameReady,
  CannotStart,
  type ConsoleOptions,
  consoleServices,
  InvalidTls,
  MemoryTransport,
  RabbitTransport,
  type ServiceSettings,
  startConsole,
  startWatchdog,
  System,
  type Transport
} from 'sagabox'
import { type EmbeddedPostgres, startEmbeddedPostgres } from 'sagabox/embedded'
import { checkBuild } from './build.ts'
import { readCommandLine } from './command-line.ts'
import { ConfigError, loadConfig, redeliverySeconds, type Config } from './config.ts'
import { environmentHints } from './environment-hints.ts'
import { cannotListen, checkListenAddress } from './listen-address.ts'
import { roles } from './roles.ts'
import { seedProducts } from './seed.ts'
import { SERVICE_NAMES, shop, shopTopology, type ServiceName, type ShopSettings } from './shop.ts'

/**
 * A terminal's Ctrl-C arrives twice under npm, from the terminal and from npm: this close together,
 * ms, it is one.
 */
const SAME_SIGNAL_MS = 500

try {
  const asked = readCommandLine(process.argv.slice(2))
  if (asked !== 'console' && 'text' in asked) process.stdout.write(asked.text)
  else {
    checkBuild()
    const config = await loadConfig()
    await (asked === 'console' ? runConsole(config) : main(config, asked.services))
  }
  // A connection that is still being tried must not keep a stopped process alive.
  process.exit(0)
} catch (error) {
  const isExplained = error instanceof CannotStart || error instanceof InvalidTls
  console.error(isExplained ? `Sagabox cannot start.\n${error.message}` : error)
  process.exit(error instanceof CannotStart ? error.exitCode : 1)
}

async function main(config: Config, names: readonly ServiceName[]): Promise<void> {
  const base = names.length < SERVICE_NAMES.length ? { service: names.join('+') } : undefined
  const log = logOf(config, base)
  if (!config.rabbitmqUrl && names.length < SERVICE_NAMES.length) {
    throw new ConfigError(
      `RABBITMQ_URL: expected an amqp:// URL, because ${names.join(' and ')} alone can reach the other services only through a broker. Without one, start all three: npm start`
    )
  }
  const settings = settingsOf(config, names)
  const stop = onSignals()
  for (const hint of environmentHints(process.env)) log.warn(hint)
  await checkListenAddress(config.host, config.port)
  const access = await Access.open(accessOptions(config), addressesOf(config), log)
  startWatchdog(config.blockedSeconds)
  const database = needsEmbedded(config, names)
    ? await startEmbeddedPostgres({
        dataDir: resolve(config.dataDir),
        log: { info: (text) => log.info(text), error: (text) => log.error(text) }
      })
    : undefined
  try {
    await run(config, names, settings, access, database, stop, log)
  } finally {
    await database?.stop()
  }
}

/** The operators' console, for services that all run elsewhere. */
async function runConsole(config: Config): Promise<void> {
  const log = logOf(config, { service: 'console' })
  const services = config.consoleServices
  if (services === undefined)
    throw new ConfigError(
      'CONSOLE_SERVICES: expected services and their addresses, such as order=http://order:3000,stock=http://stock:3000, because the console alone has none of its own'
    )
  const stop = onSignals()
  await checkListenAddress(config.host, config.port)
  const { host, port, publicUrl } = config
  const access = await Access.open({ ...accessOptions(config), publicUrl }, [host], log)
  const console = await startConsole({
    ...consoleOptions(config),
    services: consoleServices(services),
    host,
    port,
    access,
    app: { maxConnections: config.maxConnections, publicUrl, tls: httpsFiles(config) },
    log
  }).catch((error: NodeJS.ErrnoException) => {
    throw cannotListen(host, port, error)
  })
  log.info({ url: console.url }, 'The console is ready')
  log.info(`${await stop}: stopping`)
  await console.stop()
}

function consoleOptions(config: Config): ConsoleOptions {
  return {
    label: config.consoleLabel,
    color: config.consoleColor,
    readOnly: config.consoleReadOnly === 'true',
    ...(config.consoleServices !== undefined && {
      services: consoleServices(config.consoleServices)
    })
  }
}

/** JSON for machines; a person at a terminal gets lines to read. */
function logOf(config: Config, base: Record<string, string> | undefined): pino.Logger {
  return pino(
    { level: config.logLevel, base },
    process.stdout.isTTY
      ? pretty({ sync: true, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss' })
      : pino.destination()
  )
}

async function run(
  config: Config,
  names: readonly ServiceName[],
  settings: ShopSettings & ServiceSettings,
  access: Access,
  database: EmbeddedPostgres | undefined,
  stop: Promise<string>,
  log: pino.Logger
): Promise<void> {
  const fallback = config.databaseUrl ?? database?.url ?? ''
  const services = shop(settings)
  const system = await System.start({
    services: names.map((name) => services[name]),
    databaseUrls: {
      order: config.orderDatabaseUrl ?? fallback,
      stock: config.stockDatabaseUrl ?? fallback,
      payment: config.paymentDatabaseUrl ?? fallback
    },
    transport: openTransport(config, names, log),
    settings,
    migrate: config.migrate,
    host: config.host,
    port: config.port,
    access,
    operators: operatorsOf(config),
    console: consoleOptions(config),
    ...(config.consoleServices !== undefined && {
      peers: consoleServices(config.consoleServices)
    }),
    app: {
      maxConnections: config.maxConnections,
      publicUrl: config.publicUrl,
      tls: httpsFiles(config),
      corsOrigins: config.corsOrigins?.split(','),
      trustProxy: config.trustProxy?.split(',')
    },
    log
  }).catch((error: NodeJS.ErrnoException) => {
    throw cannotListen(config.host, config.port, error)
  })
  const stopping = new AbortController()
  const cannotStart = new Promise<Error>((resolveError) => {
    system
      .started()
      .catch((error: Error) => resolveError(new CannotStart(error.message, { cause: error })))
  })
  void announce(system, database !== undefined, stopping.signal, log).catch((error: unknown) =>
    log.error({ err: error }, 'Could not finish starting')
  )
  const cause = await Promise.race([
    stop,
    cannotStart,
    ...(database
      ? [
          database.endedByItself.then(
            (reason) => new Error(`${reason}. Start Sagabox again: it will recover its data`)
          )
        ]
      : [])
  ])
  stopping.abort()
  log.info(`${cause instanceof Error ? cause.message : cause}: stopping`)
  setTimeout(() => {
    log.error(
      `Not stopped after ${config.stopGraceSeconds} s; ending as it is. Nothing is lost: what was not committed is redelivered`
    )
    process.exit(1)
  }, config.stopGraceSeconds * 1000).unref()
  await system.stop()
  if (cause instanceof Error) throw cause
  log.info('Stopped')
}

/** Where operators are served apart from everybody else: with OPS_PORT. */
function operatorsOf({ host, opsHost = host, opsPort, opsPublicUrl: publicUrl }: Config) {
  return opsPort === undefined ? undefined : { host: opsHost, port: opsPort, publicUrl }
}

function addressesOf(config: Config): string[] {
  const operators = operatorsOf(config)
  return operators ? [config.host, operators.host] : [config.host]
}

/** @throws ConfigError */
function httpsFiles({ httpsCertFile: certFile, httpsKeyFile: keyFile }: Config) {
  if (certFile !== undefined && keyFile !== undefined) return { certFile, keyFile }
  if (certFile === undefined && keyFile === undefined) return undefined
  throw new ConfigError('HTTPS_CERT_FILE and HTTPS_KEY_FILE: expected both, or neither')
}

/** @throws ConfigError */
function accessOptions(config: Config): AccessOptions {
  const { auth, authKeysFile: keysFile, authOidcIssuer: issuer, authOidcAudience } = config
  if (issuer !== undefined && authOidcAudience === undefined)
    throw new ConfigError(
      'AUTH_OIDC_AUDIENCE: expected for whom tokens of AUTH_OIDC_ISSUER must be meant'
    )
  return {
    none: auth === 'none',
    keysFile,
    roles,
    sessionSecret: config.sessionSecret,
    publicUrl: config.opsPort === undefined ? config.publicUrl : config.opsPublicUrl,
    isHttps: httpsFiles(config) !== undefined,
    ...(issuer !== undefined && {
      oidc: {
        issuer,
        audience: authOidcAudience!,
        clientId: config.authOidcClientId,
        clientSecret: config.authOidcClientSecret,
        rolesClaim: config.authOidcRolesClaim
      }
    })
  }
}

function settingsOf(config: Config, names: readonly ServiceName[]): ShopSettings & ServiceSettings {
  const {
    orderDeadlineSeconds: deadlineSeconds,
    inboxDays,
    paymentGateway,
    stripeSecretKey: secretKey,
    stripeApiUrl: apiUrl
  } = config
  if (paymentGateway === 'stripe' && names.includes('payment') && !secretKey) {
    throw new ConfigError(
      'STRIPE_SECRET_KEY: expected a secret key of Stripe, because PAYMENT_GATEWAY is stripe. Without one, pay with PAYMENT_GATEWAY=simulated'
    )
  }
  return {
    deadlineSeconds,
    redeliverySeconds: redeliverySeconds(config),
    inboxDays,
    paymentGateway,
    lettersOf: config.lettersOf?.split(',') ?? [],
    ...(secretKey && { stripe: { secretKey, apiUrl } })
  }
}

function openTransport(config: Config, names: readonly ServiceName[], log: pino.Logger): Transport {
  const { rabbitmqUrl, topology: scope } = config
  const topology = shopTopology(names, scope)
  return rabbitmqUrl
    ? new RabbitTransport({
        url: rabbitmqUrl,
        tls: {
          caFile: config.rabbitmqCaFile,
          certFile: config.rabbitmqCertFile,
          keyFile: config.rabbitmqKeyFile
        },
        declares: scope !== 'none',
        topology,
        clientName: `sagabox ${names.join('+')}`,
        log
      })
    : new MemoryTransport(topology)
}

/**
 * Says once that it is ready, when /health/ready does: not when the broker is still away, or the
 * process stops before.
 */
async function announce(
  system: System,
  embedded: boolean,
  stopping: AbortSignal,
  log: pino.Logger
): Promise<void> {
  const started = await system.started().then(
    () => true,
    () => false
  )
  if (!started || stopping.aborted) return
  const seeded = embedded ? await seedProducts(system.service('stock').database) : 0
  if (!(await becameReady(system.services, stopping))) return
  const services = system.services.map(({ name }) => name)
  log.info(
    { services, addresses: system.addresses, console: `${system.operatorsUrl}/console/` },
    'Sagabox is ready'
  )
  const operators = system.operatorsUrl
  if (services.length < SERVICE_NAMES.length) return
  console.log(`
Sagabox is ready.${seeded > 0 ? ` ${seeded} sample products are on the shelf.` : ''}

  Address   ${system.url}
  Console   ${operators}/console/
  API docs  ${operators}/docs
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
  if (missing.length > 0)
    throw new ConfigError(
      `DATABASE_URL: expected a postgres:// URL for ${missing.join(' and ')} (or ${missing.map((name) => `${name.toUpperCase()}_DATABASE_URL`).join(' and ')})`
    )
  return false
}
