import type { BrokerOptions } from '../doctor/broker.ts'
import { Unreachable } from '../index.ts'
import { NotReachable, WrongUsage, type Call } from './command.ts'

/**
 * Where the broker is, by the environment.
 * @throws WrongUsage when nobody says it
 */
export function brokerPlace({
  terminal
}: Pick<Call, 'terminal'>): Pick<BrokerOptions, 'url' | 'managementUrl' | 'tls'> {
  const url = terminal.setting('RABBITMQ_URL')
  if (url === undefined)
    throw new WrongUsage('where is the broker? Expected RABBITMQ_URL=amqp://user:password@host')
  if (!URL.canParse(url) || !/^amqps?:$/.test(new URL(url).protocol))
    throw new WrongUsage('RABBITMQ_URL is no amqp:// or amqps:// URL')
  const managementUrl = terminal.setting('RABBITMQ_MANAGEMENT_URL')
  if (managementUrl !== undefined && !/^https?:/.test(managementUrl))
    throw new WrongUsage('RABBITMQ_MANAGEMENT_URL is no http:// or https:// URL')
  const tls = {
    caFile: terminal.setting('RABBITMQ_CA_FILE'),
    certFile: terminal.setting('RABBITMQ_CERT_FILE'),
    keyFile: terminal.setting('RABBITMQ_KEY_FILE')
  }
  return { url, managementUrl, tls }
}

export function explain(error: Error): never {
  if (error instanceof Unreachable) throw new NotReachable(error.message, { cause: error })
  throw error
}
