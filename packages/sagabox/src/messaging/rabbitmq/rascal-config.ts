import type { Topology } from '../transport/topology.ts'
import type { TlsOptions } from './tls.ts'

/**
 * Deliveries after which the broker dead-letters a message: far above what retries and restarts add
 * up to, since each crash of a consumer counts for everything it held. RabbitMQ 4 would set 20 and
 * drop the message without a dead letter exchange; 3.10 sets none. Never -1: they read it in
 * opposite ways.
 */
const DELIVERY_LIMIT = 100

/** Behind a queue of dead letters there is nothing: past its limit, RabbitMQ would drop them. */
const LETTER_DELIVERY_LIMIT = 1_000_000

/** The one virtual host of the config; which one it is on the broker, the URL says. */
export const VHOST = '/'

/** Reconnect quickly: Rascal's own default waits up to a minute. */
const RETRY = { min: 500, max: 5000, factor: 2, strategy: 'exponential' as const }

/** What is there already, declared otherwise than we would, and used as it is: names. */
export interface Adopted {
  exchanges: ReadonlySet<string>
  queues: ReadonlySet<string>
}

const NOTHING_ADOPTED: Adopted = { exchanges: new Set(), queues: new Set() }

/** How an exchange is declared. */
export const EXCHANGE = { type: 'fanout', options: { durable: true } }

/**
 * Derives Rascal's whole configuration. Queue arguments cannot change once a queue exists, so they
 * are only those that mean the same on RabbitMQ 3.10 and 4.x.
 * @param url `amqp://user:password@host:port/vhost` or `amqps://…`
 * @param clientName what the broker's connection list shows
 */
export function rascalConfig(
  topology: Topology,
  url: string,
  clientName: string,
  adopted = NOTHING_ADOPTED,
  tls: TlsOptions = {}
) {
  const declared = (isAdopted: boolean) =>
    isAdopted ? { assert: false, check: true } : { assert: true }
  return {
    vhosts: {
      [VHOST]: {
        connection: {
          url,
          retry: RETRY,
          options: { heartbeat: 10 },
          // Without noDelay a small frame waits for the next one: 176 ms a hop instead of 8,
          // measured. Room for a burst of messages in one write: past it, amqplib goes on with a
          // write for each.
          socketOptions: {
            timeout: 10_000,
            noDelay: true,
            writableHighWaterMark: 1024 * 1024,
            clientProperties: { connection_name: clientName },
            ...tls
          }
        },
        // Messages go over channels of their own: Rascal's pools stay empty.
        publicationChannelPools: {
          regularPool: { min: 0, max: 1 },
          confirmPool: { min: 0, max: 1 }
        },
        exchanges: Object.fromEntries(
          topology.exchanges.map((name) => [
            name,
            { ...declared(adopted.exchanges.has(name)), ...EXCHANGE }
          ])
        ),
        queues: Object.fromEntries(
          topology.queues.map(({ name, deadLetterExchange }) => {
            const options = { durable: true, arguments: queueArguments(deadLetterExchange) }
            return [name, { ...declared(adopted.queues.has(name)), options }]
          })
        ),
        bindings: Object.fromEntries(
          topology.bindings.map(({ source, destination, destinationType }) => [
            `${source} -> ${destinationType} ${destination}`,
            { source, destination, destinationType, bindingKey: '' }
          ])
        )
      }
    }
  }
}

/** @param deadLetterExchange absent for a queue of dead letters */
export function queueArguments(deadLetterExchange: string | undefined): Record<string, unknown> {
  if (!deadLetterExchange)
    return { 'x-queue-type': 'quorum', 'x-delivery-limit': LETTER_DELIVERY_LIMIT }
  return {
    'x-queue-type': 'quorum',
    'x-delivery-limit': DELIVERY_LIMIT,
    'x-dead-letter-exchange': deadLetterExchange,
    // At-least-once dead-lettering needs reject-publish; otherwise a dead letter can be lost on the
    // way.
    'x-dead-letter-strategy': 'at-least-once',
    'x-overflow': 'reject-publish'
  }
}
