import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import type { ConnectionOptions } from 'node:tls'
import { SagaboxError } from '../errors/sagabox-error.ts'

/** Where a server listens; a host that begins with `/` is the folder of its socket. */
export interface DatabaseHost {
  host: string
  port: number
}

/** What a `postgres://` URL says, and nothing that the shell says. */
export interface DatabaseAddress {
  /** Tried in this order; the first that takes writes is used. */
  hosts: readonly DatabaseHost[]
  user: string
  /** Undefined: pg looks for it in PGPASSWORD, then in the password file. */
  password: string | undefined
  database: string
  ssl: false | ConnectionOptions
  /** Whether the URL itself says with or without TLS. */
  saysTls: boolean
  sslNegotiation: 'postgres' | 'direct'
  channelBinding: boolean
  applicationName: string | undefined
  /** Session settings, from `options=-c name=value`. */
  settings: readonly (readonly [name: string, value: string])[]
  /** How long a server may take to be connected to, ms. */
  connectTimeoutMs: number | undefined
}

/** The message never holds the password, nor any part of what could not be taken apart. */
export class DatabaseUrlError extends SagaboxError {
  override readonly name = 'DatabaseUrlError'
  override readonly code = 'DATABASE_URL_ERROR'
}

const SYNTAX = 'expected a postgres:// URL, with user and password percent-encoded'

/**
 * What libpq has a name for and what changes nothing here, with the values for which that is so.
 */
const WITHOUT_EFFECT: Record<string, RegExp> = {
  client_encoding: /^(utf-?8|auto)$/i,
  fallback_application_name: /^/,
  gssencmode: /^(disable|prefer)$/,
  keepalives: /^1$/,
  load_balance_hosts: /^disable$/,
  passfile: /^$/,
  requirepeer: /^$/,
  sslcompression: /^0$/,
  sslsni: /^1$/
}

/**
 * Reads a URL as psql does: several hosts (`h1:5432,h2`), a socket
 * (`postgres://app@/db?host=/run/postgresql`, or the host percent-encoded),
 * `target_session_attrs`, `sslmode` with `sslrootcert`, `options`.
 *
 * TLS differs from libpq in this: `require` verifies the certificate as `verify-full` does (unless
 * `uselibpqcompat=true`), and there is no mode that tries both.
 * @throws {DatabaseUrlError} naming the parameter, what was found and what was expected; also when
 * a certificate's file cannot be read
 */
export function parseDatabaseUrl(url: string): DatabaseAddress {
  const parts =
    /^postgres(?:ql)?:\/\/(?:([^/?#]*)@)?([^/?#@]*)(?:\/([^?#/]*))?(?:\?([^#]*))?$/.exec(url)
  if (!parts) throw new DatabaseUrlError(SYNTAX)
  const [, login = '', authority = '', path = '', query = ''] = parts
  const given = new URLSearchParams(query)
  const taken = new Set<string>()
  const parameter = (name: string): string | undefined => {
    taken.add(name)
    return given.get(name) || undefined
  }
  const oneOf = (name: string, values: readonly string[]): string | undefined => {
    const value = parameter(name)
    if (value !== undefined && !values.includes(value)) {
      throw new DatabaseUrlError(`${name}=${value}: expected ${values.join(', ')}`)
    }
    return value
  }

  const colon = login.indexOf(':')
  const [user, password] = colon < 0 ? [login, ''] : [login.slice(0, colon), login.slice(colon + 1)]
  const role = parameter('user') ?? (decoded(user) || userInfo().username)
  const address: DatabaseAddress = {
    hosts: hostsOf(authority, parameter('host') ?? parameter('hostaddr'), parameter('port')),
    user: role,
    password: parameter('password') ?? (decoded(password) || undefined),
    database: parameter('dbname') ?? (decoded(path) || role),
    ...encryption(parameter, oneOf),
    saysTls: ['ssl', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'sslnegotiation'].some((one) =>
      given.has(one)
    ),
    channelBinding: ['prefer', 'require'].includes(
      oneOf('channel_binding', ['disable', 'prefer', 'require']) ?? ''
    ),
    applicationName: parameter('application_name'),
    settings: settingsOf(parameter('options') ?? ''),
    connectTimeoutMs: secondsOf(parameter('connect_timeout'))
  }
  // All three ask for less than what is looked for: a server that takes writes. The others can
  // never be served by one.
  oneOf('target_session_attrs', ['any', 'read-write', 'primary'])
  for (const name of new Set(given.keys())) {
    if (taken.has(name)) continue
    const value = given.get(name) ?? ''
    if (WITHOUT_EFFECT[name]?.test(value)) continue
    const known = [...taken, ...Object.keys(WITHOUT_EFFECT)].toSorted().join(', ')
    throw new DatabaseUrlError(
      WITHOUT_EFFECT[name]
        ? `${name}=${value} cannot be honoured: leave it out`
        : `the parameter ${name} is not known: expected any of ${known}`
    )
  }
  return address
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new DatabaseUrlError(SYNTAX)
  }
}

/**
 * As libpq does: the parameter `host` instead of what stands before the path, a port for each host
 * or one for all.
 */
function hostsOf(
  authority: string,
  hostParameter: string | undefined,
  portParameter: string | undefined
): DatabaseHost[] {
  const written = authority.split(',').map((part) => {
    const [, bracketed, plain = '', port] =
      /^(?:\[([^\]]+)\]|([^:[\]]*))(?::([^:]*))?$/.exec(part) ?? fail()
    return {
      host: bracketed ?? decoded(plain),
      port: port === undefined || port === '' ? undefined : portOf(port)
    }
  })
  const hosts = hostParameter?.split(',') ?? written.map(({ host }) => host)
  const ports = portParameter?.split(',').map(portOf) ?? written.map(({ port }) => port)
  if (ports.length > 1 && ports.length !== hosts.length) {
    throw new DatabaseUrlError(
      `${ports.length} ports for ${hosts.length} hosts: expected one for each, or one for all`
    )
  }
  return hosts.map((host, index) => ({
    host: host || 'localhost',
    port: ports[ports.length > 1 ? index : 0] ?? 5432
  }))
}

function portOf(text: string): number {
  // Not shown: it may be what follows a `:` in a password.
  if (!/^\d{1,5}$/.test(text) || Number(text) < 1 || Number(text) > 65_535) fail()
  return Number(text)
}

function fail(): never {
  throw new DatabaseUrlError(SYNTAX)
}

type Parameter = (name: string) => string | undefined
type OneOf = (name: string, values: readonly string[]) => string | undefined

function encryption(
  parameter: Parameter,
  oneOf: OneOf
): Pick<DatabaseAddress, 'ssl' | 'sslNegotiation'> {
  const files = {
    ca: parameter('sslrootcert'),
    cert: parameter('sslcert'),
    key: parameter('sslkey')
  }
  const [passphrase, short, direct, compatible] = [
    parameter('sslpassword'),
    oneOf('ssl', ['true', '1', 'false', '0', 'no-verify']),
    oneOf('sslnegotiation', ['postgres', 'direct']) === 'direct',
    oneOf('uselibpqcompat', ['true', 'false']) === 'true'
  ]
  const mode =
    oneOf('sslmode', ['disable', 'require', 'verify-ca', 'verify-full', 'no-verify']) ??
    (short === undefined
      ? Object.values(files).some(Boolean) || direct
        ? 'verify-full'
        : 'disable'
      : ({ true: 'verify-full', 1: 'verify-full', false: 'disable', 0: 'disable' }[short] ?? short))
  if (mode === 'disable') {
    if (direct)
      throw new DatabaseUrlError(
        'sslnegotiation=direct needs TLS: expected an sslmode other than disable'
      )
    return { ssl: false, sslNegotiation: 'postgres' }
  }
  const ssl: ConnectionOptions = { ...(passphrase !== undefined && { passphrase }) }
  for (const [option, file] of Object.entries(files) as [
    keyof typeof files,
    string | undefined
  ][]) {
    if (file !== undefined && !(option === 'ca' && file === 'system'))
      ssl[option] = contentOf({ ca: 'sslrootcert', cert: 'sslcert', key: 'sslkey' }[option], file)
  }
  const unchecked =
    mode === 'no-verify' || (compatible && mode === 'require' && ssl.ca === undefined)
  const anyName = mode === 'verify-ca' || (compatible && mode === 'require')
  if (unchecked) ssl.rejectUnauthorized = false
  else if (anyName) ssl.checkServerIdentity = () => undefined
  return { ssl, sslNegotiation: direct ? 'direct' : 'postgres' }
}

function contentOf(name: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new DatabaseUrlError(
      `${name}=${file}: expected a file in PEM format that can be read (${(cause as Error).message})`,
      { cause }
    )
  }
}

/**
 * `-c name=value` and `--name=value`, as a server's command line takes them; a backslash keeps a
 * space.
 */
function settingsOf(options: string): [name: string, value: string][] {
  const words = (options.match(/(?:\\.|[^\s\\])+/g) ?? []).map((word) =>
    word.replaceAll(/\\(.)/g, '$1')
  )
  const settings: [string, string][] = []
  for (let index = 0; index < words.length; index++) {
    const word = words[index]!
    const text = word === '-c' ? (words[++index] ?? '') : word.replace(/^(-c|--)/, '')
    const [, name, value] = /^([\w.-]+)=(.*)$/s.exec(text) ?? []
    if (name === undefined || (text === word && word !== '-c'))
      throw new DatabaseUrlError('options: expected -c name=value, any number of times')
    settings.push([name.replaceAll('-', '_'), value!])
  }
  return settings
}

function secondsOf(text: string | undefined): number | undefined {
  if (text === undefined || text === '0') return undefined
  if (!/^\d{1,5}$/.test(text))
    throw new DatabaseUrlError(`connect_timeout=${text}: expected seconds`)
  return Number(text) * 1000
}
