import type { Test } from 'tap'
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
  /** A sender needs no restart to reach a queue that came later. */
  readonly findsLaterQueues: boolean
}

export async function memoryBus(t: Test): Promise<Bus> {
  const transports = new Map<Topology, MemoryTransport>()
  t.teardown(() => Promise.all([...transports.values()].map((transport) => transport.stop())))
  return {
    url: undefined,
    findsLaterQueues: false,
    kept: () => undefined,
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
