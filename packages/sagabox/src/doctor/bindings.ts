import type { QueueBinding } from '../messaging/rabbitmq/hand-over.ts'
import type { Topology } from '../messaging/transport/topology.ts'

/** The management API has to answer within, ms. */
const ANSWER_MS = 10_000

export type Binding = Topology['bindings'][number]

export interface Bindings {
  all: Binding[]
  /** How far the broker's clock is ahead of this machine's, seconds; to the second. */
  skewSeconds: number | undefined
}

/**
 * All bindings of a virtual host, as RabbitMQ's management API lists them.
 * @param managementUrl such as `http://127.0.0.1:15672`, perhaps with user and password; else those
 * of the AMQP URL are used
 * @throws Error with a sentence that holds no password
 */
export async function readBindings(managementUrl: string, amqpUrl: string): Promise<Bindings> {
  const { listed, skewSeconds } = await list(managementUrl, amqpUrl)
  return { all: listed.map(bindingOf).filter(({ source }) => source !== ''), skewSeconds }
}

/**
 * The bindings of queues to exchanges.
 * @throws Error with a sentence that holds no password
 */
export async function readQueueBindings(
  managementUrl: string,
  amqpUrl: string
): Promise<QueueBinding[]> {
  const { listed } = await list(managementUrl, amqpUrl)
  return listed
    .filter((one) => one['destination_type'] === 'queue' && one['source'] !== '')
    .map((one) => ({
      queue: String(one['destination']),
      source: String(one['source']),
      key: String(one['routing_key']),
      arguments: one['arguments'] as QueueBinding['arguments']
    }))
}

async function list(
  managementUrl: string,
  amqpUrl: string
): Promise<{ listed: Record<string, unknown>[]; skewSeconds: number | undefined }> {
  const place = new URL(managementUrl)
  const amqp = new URL(amqpUrl)
  const login = place.username ? place : amqp
  const user = decodeURIComponent(login.username) || 'guest'
  const password = login.username ? decodeURIComponent(login.password) : 'guest'
  const vhost = decodeURIComponent(amqp.pathname.slice(1)) || '/'
  const base = `${place.origin}${place.pathname.replace(/\/$/, '')}`
  const url = `${base}/api/bindings/${encodeURIComponent(vhost)}`
  const asked = Date.now()
  let response: Response
  try {
    response = await fetch(url, {
      headers: {
        authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
      },
      signal: AbortSignal.timeout(ANSWER_MS)
    })
  } catch (error) {
    const { message } = ((error as Error).cause ?? error) as Error
    throw new Error(`${base} cannot be reached: ${message}`, { cause: error })
  }
  const listed: unknown = await response.json().catch(() => undefined)
  if (!response.ok || !Array.isArray(listed))
    throw new Error(
      `${url} answers ${response.status} and no list; expected RabbitMQ's management API, and a user with the tag management`
    )
  const date = Date.parse(response.headers.get('date') ?? '')
  return {
    listed: listed as Record<string, unknown>[],
    // It says the second that had begun; half of one is lost on average.
    skewSeconds: Number.isNaN(date) ? undefined : (date + 500 - (asked + Date.now()) / 2) / 1000
  }
}

function bindingOf({
  source,
  destination,
  destination_type: type
}: Record<string, unknown>): Binding {
  return {
    source: String(source),
    destination: String(destination),
    destinationType: type === 'exchange' ? 'exchange' : 'queue'
  }
}

/** Those of a topology that a broker does not have. */
export function missingBindings(topology: Topology, { all }: Bindings): Binding[] {
  const there = new Set(all.map(keyOf))
  return topology.bindings.filter((binding) => !there.has(keyOf(binding)))
}

function keyOf({ source, destination, destinationType }: Binding): string {
  return JSON.stringify([source, destinationType, destination])
}
