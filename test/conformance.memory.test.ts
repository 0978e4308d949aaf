import t from 'tap'
import { MemoryTransport } from '../src/messaging/memory-transport.ts'
import type { Topology } from '../src/messaging/topology.ts'
import { transportConformance } from './conformance.ts'

transportConformance(t, async (t) => {
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
})
