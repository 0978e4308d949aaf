import { connect } from 'amqplib'
import type { Test } from 'tap'
import type { ExchangeType } from '../../packages/sagabox/src/messaging/message/message.ts'
import { MemoryTransport } from '../../packages/sagabox/src/messaging/transport/memory.ts'
import { RabbitTransport } from '../../packages/sagabox/src/messaging/rabbitmq/transport.ts'
import type { Topology } from '../../packages/sagabox/src/messaging/transport/topology.ts'
import type { Transport } from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { log } from './harbour.ts'
import { rabbitmqForTests } from './rabbitmq.ts'

/** A transport with a world of its own, for one subtest. */
export interface Bus {
  /** A started transport, as one process has it. Stopped with the test. */
  connect(topology: Topology): Transport
  /**
   * Messages kept in the queue, those handed out included. Undefined: the bus keeps none, the
   * outbox does.
   */
  kept(queue: string): Promise<number> | undefined
  /** Where other processes find it; undefined: nowhere. */
  readonly url: string | undefined
  /** Somebody else's exchange, and a sender that knows nothing of us. */
  outsider(
    exchange: string,
    type: ExchangeType
  ): Promise<(parcel: OutsidersParcel) => Promise<void>>
  /** A sender needs no restart to reach a queue that came later. */
  readonly findsLaterQueues: boolean
}

/** What comes from outside: bytes, and whatever is said beside them. */
export interface OutsidersParcel {
  body: string | Buffer
  key?: string
  messageId?: string
  contentType?: string
  headers?: Record<string, unknown>
}

export async function memoryBus(t: Test): Promise<Bus> {
  const transports = new Map<Topology, MemoryTransport>()
  t.teardown(() => Promise.all([...transports.values()].map((transport) => transport.stop())))
  return {
    url: undefined,
    findsLaterQueues: false,
    kept: () => undefined,
    async outsider(exchange) {
      return async ({ body, key = '', messageId, contentType = null, headers }) => {
        const [transport] = [...transports.values()]
        const destination = `${exchange}#${key}`
        const parcel = { destination, payload: body, contentType, headers, required: false }
        // Accepted when it is handled: nobody outside waits for that.
        void transport!.publish({ ...parcel, messageId: messageId ?? '' })
      }
    },
    // All endpoints share one: it ends at the process's walls.
    connect(topology) {
      const transport = transports.get(topology) ?? new MemoryTransport(topology)
      transports.set(topology, transport)
      return transport
    }
  }
}

/** A virtual host of its own. */
export async function rabbitmqBus(t: Test): Promise<Bus> {
  const broker = await rabbitmqForTests()
  const url = await broker.createVhost()
  t.teardown(() => broker.deleteVhost(url))
  return {
    url,
    findsLaterQueues: true,
    async outsider(exchange, type) {
      const connection = await connect(url)
      // It goes with its virtual host.
      connection.on('error', () => {})
      const channel = await connection.createConfirmChannel()
      await channel.assertExchange(exchange, type)
      return async ({ body, key = '', ...properties }) => {
        channel.publish(exchange, key, Buffer.from(body), properties)
        await channel.waitForConfirms()
      }
    },
    async kept(queue) {
      return (await broker.queues(url)).find(({ name }) => name === queue)?.messages ?? 0
    },
    connect(topology) {
      const transport = new RabbitTransport({ url, topology, clientName: 'conformance', log })
      t.teardown(() => transport.stop())
      transport.start(() => {})
      return transport
    }
  }
}
