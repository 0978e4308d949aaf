import { createSecureContext } from 'node:tls'
import { InvalidTls, readPem } from '../errors/invalid-tls.ts'

/** Files in PEM format, read again for each new connection. */
export interface BrokerTls {
  /** The authority that signed the broker's certificate; those that Node knows when not given. */
  readonly caFile?: string
  /** The client's own certificate, with `keyFile`. */
  readonly certFile?: string
  readonly keyFile?: string
}

export interface TlsOptions {
  ca?: string
  cert?: string
  key?: string
}

const SETTINGS = {
  ca: ['RABBITMQ_CA_FILE', 'caFile'],
  cert: ['RABBITMQ_CERT_FILE', 'certFile'],
  key: ['RABBITMQ_KEY_FILE', 'keyFile']
} as const

/**
 * What the files hold, for a connection to a broker.
 * @throws InvalidTls when they cannot be used, or the URL says `amqp://`, which is without TLS
 */
export function tlsOptions(url: string, files: BrokerTls = {}): TlsOptions {
  const options: TlsOptions = {}
  for (const [name, [setting, field]] of Object.entries(SETTINGS)) {
    const file = files[field]
    if (file === undefined) continue
    if (!url.startsWith('amqps:'))
      throw new InvalidTls(
        `${setting} is given, and RABBITMQ_URL is amqp://, which is without TLS; expected amqps://`
      )
    options[name as keyof TlsOptions] = readPem(setting, file)
  }
  if ((options.cert === undefined) !== (options.key === undefined))
    throw new InvalidTls('RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE: expected both, or neither')
  try {
    createSecureContext(options)
  } catch (error) {
    throw new InvalidTls(
      `RABBITMQ_CA_FILE, RABBITMQ_CERT_FILE, RABBITMQ_KEY_FILE: they cannot be used (${(error as Error).message}); expected a certificate and the key that belongs to it`,
      { cause: error }
    )
  }
  return options
}
