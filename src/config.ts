import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { fileURLToPath } from 'node:url'
import Type, { type Static } from 'typebox'
import { Check, Errors } from 'typebox/value'
import { parseDatabaseUrl, problemsOf } from 'sagabox/engine'
import { CannotStart, consoleServices } from 'sagabox'

// A `/`, `#` or `%` as it is in a password makes another URL, or none; the parser's own error would
// print it.
const url = (schemes: string, name: string) =>
  Type.Refine(
    Type.String({
      pattern: `^(${schemes})://.+`,
      description: `${name} URL, with user and password percent-encoded`
    }),
    isUrl
  )

// Read as psql reads it, which is more than a URL may be: several hosts, or none before a socket.
const DatabaseUrl = Type.String({
  pattern: '^(postgres|postgresql)://.+',
  description: 'a postgres:// URL, with user and password percent-encoded'
})
const PemFile = Type.Optional(Type.String({ minLength: 1, description: 'a file in PEM format' }))
const DATABASE_URLS = [
  'databaseUrl',
  'orderDatabaseUrl',
  'stockDatabaseUrl',
  'paymentDatabaseUrl'
] as const
const FOLDER = fileURLToPath(new URL('../config', import.meta.url))
const MAPPING = `${FOLDER}/custom-environment-variables.json`

const Config = Type.Object({
  host: Type.String({ minLength: 1, description: 'an address to listen on' }),
  port: Type.Integer({
    minimum: 0,
    maximum: 65_535,
    description: 'a port number from 0 (any free one) to 65535'
  }),
  opsHost: Type.Optional(Type.String({ minLength: 1, description: 'an address to listen on' })),
  opsPort: Type.Optional(
    Type.Integer({ minimum: 0, maximum: 65_535, description: 'a port number from 0 to 65535' })
  ),
  opsPublicUrl: Type.Optional(
    Type.Refine(
      Type.String({
        pattern: '^https?://[^?#@\\s]+$',
        description:
          'the http:// or https:// URL at which operators see their listener, such as https://example.com/shop'
      }),
      isUrl
    )
  ),
  publicUrl: Type.Optional(
    Type.Refine(
      Type.String({
        pattern: '^https?://[^?#@\\s]+$',
        description:
          'the http:// or https:// URL at which clients see this process, such as https://example.com/shop'
      }),
      isUrl
    )
  ),
  auth: Type.Optional(Type.Literal('none', { description: 'none, or nothing' })),
  authKeysFile: Type.Optional(
    Type.String({ minLength: 1, description: 'a file of keys, made by sagabox keys create' })
  ),
  authOidcIssuer: Type.Optional(
    url('https?', 'the https:// issuer of a provider of OpenID Connect, as an https://')
  ),
  authOidcAudience: Type.Optional(Type.String({ minLength: 1, description: 'an audience' })),
  authOidcClientId: Type.Optional(Type.String({ minLength: 1, description: 'a client id' })),
  authOidcClientSecret: Type.Optional(Type.String({ minLength: 1, description: 'a secret' })),
  authOidcRolesClaim: Type.Optional(
    Type.String({ minLength: 1, description: 'the path to the roles in a token, such as roles' })
  ),
  sessionSecret: Type.Optional(
    Type.String({ minLength: 32, description: 'a secret of at least 32 characters' })
  ),
  corsOrigins: Type.Optional(
    Type.String({
      pattern: '^https?://[^/?#@\\s,]+(,https?://[^/?#@\\s,]+)*$',
      description: 'origins separated by commas, such as https://admin.example.com'
    })
  ),
  trustProxy: Type.Optional(
    Type.Refine(
      Type.String({
        description: 'addresses or networks of proxies separated by commas, such as 10.0.0.0/8'
      }),
      areNetworks
    )
  ),
  consoleServices: Type.Optional(
    Type.Refine(
      Type.String({
        description:
          'services elsewhere and their addresses, such as order=http://order:3000,stock=http://stock:3000'
      }),
      isServiceList
    )
  ),
  consoleLabel: Type.Optional(
    Type.String({
      pattern: '^[^\\u0000-\\u001f]{1,40}$',
      description: 'the name of the environment, such as production, of at most 40 characters'
    })
  ),
  consoleColor: Type.Optional(
    Type.String({ pattern: '^#[0-9A-Fa-f]{6}$', description: 'a color, such as #b3261e' })
  ),
  consoleReadOnly: Type.Optional(Type.Enum(['true', 'false'], { description: 'true or false' })),
  maxConnections: Type.Integer({
    minimum: 1,
    maximum: 1_000_000,
    description: 'connections from 1 to 1000000'
  }),
  databaseUrl: Type.Optional(DatabaseUrl),
  orderDatabaseUrl: Type.Optional(DatabaseUrl),
  stockDatabaseUrl: Type.Optional(DatabaseUrl),
  paymentDatabaseUrl: Type.Optional(DatabaseUrl),
  rabbitmqUrl: Type.Optional(url('amqps?', 'an amqp:// or amqps://')),
  rabbitmqCaFile: PemFile,
  rabbitmqCertFile: PemFile,
  rabbitmqKeyFile: PemFile,
  httpsCertFile: PemFile,
  httpsKeyFile: PemFile,
  migrate: Type.Enum(['auto', 'check', 'off'], { description: 'auto, check or off' }),
  topology: Type.Enum(['own', 'all', 'none'], { description: 'own, all or none' }),
  dataDir: Type.String({ minLength: 1, description: 'a folder' }),
  logLevel: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    description: 'one of fatal, error, warn, info, debug, trace, silent'
  }),
  orderDeadlineSeconds: Type.Number({
    minimum: 0.1,
    maximum: 2_000_000,
    description: 'seconds from 0.1 to 2000000'
  }),
  redeliverySeconds: Type.String({
    pattern: '^(\\d{1,7}(\\.\\d{1,3})?(,(?=\\d)|$)){0,20}$',
    description:
      'seconds separated by commas, such as 5,30,300, or nothing for no delayed redelivery'
  }),
  lettersOf: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9_.:-]+_(error|skipped)(,[A-Za-z0-9_.:-]+_(error|skipped))*$',
      description:
        'queues of dead letters of others, separated by commas, such as stock_error,stock_skipped'
    })
  ),
  inboxDays: Type.Number({ minimum: 0.01, maximum: 3650, description: 'days from 0.01 to 3650' }),
  stopGraceSeconds: Type.Number({
    minimum: 1,
    maximum: 3600,
    description: 'seconds from 1 to 3600'
  }),
  blockedSeconds: Type.Number({ minimum: 1, maximum: 3600, description: 'seconds from 1 to 3600' }),
  paymentGateway: Type.Enum(['simulated', 'stripe'], { description: 'simulated or stripe' }),
  stripeSecretKey: Type.Optional(
    Type.String({
      pattern: '^[rs]k_(test|live)_[A-Za-z0-9]+$',
      description:
        'a secret or restricted key of Stripe: sk_test_…, sk_live_…, rk_test_… or rk_live_…'
    })
  ),
  stripeApiUrl: Type.String({
    pattern: '^https?://[^/?#@\\s]+/?$',
    description: 'an http:// or https:// URL without a path'
  })
})

export type Config = Static<typeof Config>

/** A setting that cannot be used; the message names it and says what was expected. */
export class ConfigError extends CannotStart {
  override readonly name = 'ConfigError'
  override readonly code = 'CONFIG_ERROR'
}

/** `5,30,300` as numbers. */
export function redeliverySeconds({ redeliverySeconds: text }: Config): number[] {
  return text === '' ? [] : text.split(',').map(Number)
}

const ENVIRONMENTS = ['production', 'test', 'development']

/**
 * Reads config/*.json and the environment.
 * @throws ConfigError
 */
export async function loadConfig(): Promise<Config> {
  const given = await readSources()
  const known = Object.fromEntries(
    Object.keys(Config.properties).flatMap((key) =>
      given[key] === undefined ? [] : [[key, trimmed(given[key])]]
    )
  )
  const variables = environmentVariables()
  // Of all others, an empty variable is one that is not set.
  if (process.env[variables.redeliverySeconds!] === '') known.redeliverySeconds = ''
  const value = withNumbers(known)
  if (Check(Config, value)) return withDatabaseUrls(value, variables)
  const lines = problemsOf(Errors(Config, value)).map(({ field }) => {
    const key = field.slice(1) as keyof typeof Config.properties
    const isHidden = key.endsWith('Url') || key === 'consoleServices' || isSecret(key)
    const shown = isHidden ? '' : `, got ${JSON.stringify(given[key])}`
    const quoted = /^(["']).*\1$/s.test(String(known[key]))
      ? '. The quotes around it are part of the value: leave them out'
      : ''
    return `${variables[key] ?? key}: expected ${(Config.properties[key] as { description?: string } | undefined)?.description ?? 'another value'}${shown}${quoted}`
  })
  throw new ConfigError([...new Set(lines)].join('\n'))
}

/**
 * Takes the database URLs apart once, so that a bad one stops the start. Of the shell's PG…
 * variables, PGSSLMODE and PGSSLROOTCERT count for a URL that says nothing of TLS, if they ask for
 * it (a connection that was to be encrypted never silently is not); PGPASSWORD and the password
 * file are pg's, for a URL without a password. No other does.
 */
function withDatabaseUrls(config: Config, variables: Record<string, string>): Config {
  const urls: Partial<Config> = {}
  for (const key of DATABASE_URLS) {
    const given = config[key]
    if (given === undefined) continue
    try {
      const { hosts, saysTls } = parseDatabaseUrl(given)
      const isNetwork = hosts.every(({ host }) => !host.startsWith('/'))
      urls[key] = isNetwork && !saysTls ? withTls(given) : given
      if (urls[key] !== given) parseDatabaseUrl(urls[key])
    } catch (error) {
      const fromShell =
        urls[key] !== undefined && urls[key] !== given ? ' (from PGSSLMODE or PGSSLROOTCERT)' : ''
      throw new ConfigError(`${variables[key]}: ${(error as Error).message}${fromShell}`)
    }
  }
  return { ...config, ...urls }
}

function withTls(given: string): string {
  const { PGSSLMODE: mode = '', PGSSLROOTCERT: root } = process.env
  if (!['require', 'verify-ca', 'verify-full', 'no-verify'].includes(mode)) return given
  const tls = new URLSearchParams({
    sslmode: mode,
    ...(root !== undefined && root !== '' && { sslrootcert: root })
  })
  return `${given}${given.includes('?') ? '&' : '?'}${tls.toString()}`
}

/**
 * default.json, the one of NODE_ENV, local.json, then the environment. Each is named here: by
 * itself the config package also listens to NODE_CONFIG, NODE_CONFIG_DIR, NODE_APP_INSTANCE and to
 * files named after HOST, which other programs set.
 */
async function readSources(): Promise<Record<string, unknown>> {
  const { Load } = await import('config/lib/util.js')
  const load = new Load({ configDir: FOLDER, hostName: '', nodeEnv: [] })
  try {
    for (const name of ['default', nodeEnvironment(), 'local'])
      load.loadFile(`${FOLDER}/${name}.json`)
  } catch (error) {
    throw new ConfigError((error as Error).message)
  }
  const set = Object.entries(environmentVariables()).flatMap(([key, name]) => {
    const value = (isSecret(key) ? secretFrom(name) : undefined) ?? process.env[name]
    return value ? [[key, value]] : []
  })
  return { ...load.config, ...Object.fromEntries(set) }
}

/** What no message shows, and may come from a file: NAME_FILE for NAME. */
function isSecret(key: string): boolean {
  return (
    /(Url|Key|Secret)$/.test(key) && !/^(ops)?[pP]ublicUrl$/.test(key) && key !== 'stripeApiUrl'
  )
}

/** @throws ConfigError when the file cannot be read, or its value is given in both ways */
function secretFrom(name: string): string | undefined {
  const path = process.env[`${name}_FILE`]
  if (!path) return undefined
  if (process.env[name])
    throw new ConfigError(`${name} and ${name}_FILE are both set: expected one of them`)
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new ConfigError(
      `${name}_FILE: ${path} cannot be read (${code}); expected a file with ${name}`
    )
  }
}

function nodeEnvironment(): string {
  const name = process.env['NODE_ENV']?.trim() ?? ''
  return ENVIRONMENTS.includes(name) ? name : 'development'
}

/**
 * Files and forms leave spaces and line ends around values. What is nothing but those is not taken
 * for unset.
 */
function trimmed(value: unknown): unknown {
  return typeof value === 'string' ? value.trim() || value : value
}

/** The environment holds only text: "8080" is meant as a number, and nothing else is. */
function withNumbers(given: Record<string, unknown>): Record<string, unknown> {
  const isNumber = (key: string) =>
    ['number', 'integer'].includes(
      (Config.properties[key as keyof typeof Config.properties] as { type?: string }).type ?? ''
    )
  return Object.fromEntries(
    Object.entries(given).map(([key, value]) => [
      key,
      isNumber(key) && typeof value === 'string' && /^-?\d+(\.\d+)?$/.test(value)
        ? Number(value)
        : value
    ])
  )
}

/** `10.0.0.0/8,::1`: addresses, each with the bits of a network or without. */
function areNetworks(text: string): boolean {
  return text.split(',').every((one) => {
    const [address = '', bits, ...more] = one.split('/')
    const most = { 4: 32, 6: 128 }[isIP(address)]
    const isNetwork = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (most ?? 0))
    return most !== undefined && isNetwork && more.length === 0
  })
}

function isServiceList(text: string): boolean {
  try {
    consoleServices(text)
    return true
  } catch {
    return false
  }
}

function isUrl(text: string): boolean {
  try {
    const { username, password, pathname } = new URL(text)
    for (const part of [username, password, pathname]) decodeURIComponent(part)
    return true
  } catch {
    return false
  }
}

/** Setting -> the environment variable it is read from. */
export function environmentVariables(): Record<string, string> {
  return JSON.parse(readFileSync(MAPPING, 'utf8')) as Record<string, string>
}
