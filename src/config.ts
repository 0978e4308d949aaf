import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import Type, { type Static } from 'typebox'
import { Check, Errors } from 'typebox/value'
import { problemsOf } from './messaging/schema.ts'

// A `/`, `#` or `%` as it is in a password makes another URL, or none; the parser's own error would print it.
const url = (schemes: string, name: string) =>
  Type.Refine(Type.String({ pattern: `^(${schemes})://.+`, description: `${name} URL, with user and password percent-encoded` }), isUrl)

const DatabaseUrl = url('postgres|postgresql', 'a postgres://')

const Config = Type.Object({
  host: Type.String({ minLength: 1, description: 'an address to listen on' }),
  port: Type.Integer({ minimum: 0, maximum: 65_535, description: 'a port number from 0 (any free one) to 65535' }),
  publicUrl: Type.Optional(Type.Refine(Type.String({ pattern: '^https?://[^?#@\\s]+$', description: 'the http:// or https:// URL at which clients see this process, such as https://example.com/shop' }), isUrl)),
  maxConnections: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'connections from 1 to 1000000' }),
  databaseUrl: Type.Optional(DatabaseUrl),
  orderDatabaseUrl: Type.Optional(DatabaseUrl),
  stockDatabaseUrl: Type.Optional(DatabaseUrl),
  paymentDatabaseUrl: Type.Optional(DatabaseUrl),
  rabbitmqUrl: Type.Optional(url('amqps?', 'an amqp:// or amqps://')),
  dataDir: Type.String({ minLength: 1, description: 'a folder' }),
  logLevel: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], { description: 'one of fatal, error, warn, info, debug, trace, silent' }),
  orderDeadlineSeconds: Type.Number({ minimum: 0.1, maximum: 2_000_000, description: 'seconds from 0.1 to 2000000' }),
  redeliverySeconds: Type.String({ pattern: '^(\\d{1,7}(\\.\\d{1,3})?(,(?=\\d)|$)){0,20}$', description: 'seconds separated by commas, such as 5,30,300, or nothing for no delayed redelivery' }),
  inboxDays: Type.Number({ minimum: 0.01, maximum: 3650, description: 'days from 0.01 to 3650' }),
  stopGraceSeconds: Type.Number({ minimum: 1, maximum: 3600, description: 'seconds from 1 to 3600' }),
  blockedSeconds: Type.Number({ minimum: 1, maximum: 3600, description: 'seconds from 1 to 3600' }),
  paymentGateway: Type.Enum(['simulated', 'stripe'], { description: 'simulated or stripe' }),
  stripeSecretKey: Type.Optional(Type.String({ pattern: '^[rs]k_(test|live)_[A-Za-z0-9]+$', description: 'a secret or restricted key of Stripe: sk_test_…, sk_live_…, rk_test_… or rk_live_…' })),
  stripeApiUrl: Type.String({ pattern: '^https?://[^/?#@\\s]+/?$', description: 'an http:// or https:// URL without a path' })
})

export type Config = Static<typeof Config>

/** A setting that cannot be used; the message names it and says what was expected. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** `5,30,300` as numbers. */
export function redeliverySeconds({ redeliverySeconds: text }: Config): number[] {
  return text === '' ? [] : text.split(',').map(Number)
}

/**
 * Reads config/*.json and the environment, once, at start.
 * @throws ConfigError
 */
export async function loadConfig(): Promise<Config> {
  process.env.NODE_CONFIG_DIR ??= fileURLToPath(new URL('../config', import.meta.url))
  process.env.SUPPRESS_NO_CONFIG_WARNING ??= 'true'
  const { default: config } = await import('config')
  const given = config.util.toObject() as Record<string, unknown>
  const known = Object.fromEntries(Object.keys(Config.properties).flatMap((key) => (given[key] === undefined ? [] : [[key, given[key]]])))
  const variables = environmentVariables()
  // The config package takes an empty variable for one that is not set.
  if (process.env[variables.redeliverySeconds!] === '') known.redeliverySeconds = ''
  const value = withNumbers(known)
  if (Check(Config, value)) return value
  const lines = problemsOf(Errors(Config, value)).map(({ field }) => {
    const key = field.slice(1) as keyof typeof Config.properties
    const shown = key.endsWith('Url') || key === 'stripeSecretKey' ? '' : `, got ${JSON.stringify(given[key])}`
    return `${variables[key] ?? key}: expected ${(Config.properties[key] as { description?: string } | undefined)?.description ?? 'another value'}${shown}`
  })
  throw new ConfigError([...new Set(lines)].join('\n'))
}

/** The environment holds only text: "8080" is meant as a number, and nothing else is. */
function withNumbers(given: Record<string, unknown>): Record<string, unknown> {
  const isNumber = (key: string) => ['number', 'integer'].includes((Config.properties[key as keyof typeof Config.properties] as { type?: string }).type ?? '')
  return Object.fromEntries(Object.entries(given).map(([key, value]) => [key, isNumber(key) && typeof value === 'string' && /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value]))
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
function environmentVariables(): Record<string, string> {
  return JSON.parse(readFileSync(`${process.env.NODE_CONFIG_DIR}/custom-environment-variables.json`, 'utf8')) as Record<string, string>
}
