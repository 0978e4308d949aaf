// The harbour in a process of its own, which can be told to die by SIGKILL while it handles a
// message. Tells its parent 'acknowledged'; stops when the parent disconnects.
import { MemoryTransport } from '../../packages/sagabox/src/messaging/transport/memory.ts'
import { RabbitTransport } from '../../packages/sagabox/src/messaging/rabbitmq/transport.ts'
import type { Transport } from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { DockShip, log, TestService, topology, writes } from './harbour.ts'

export interface HarbourProcess {
  databaseUrl: string
  /** Absent: in memory. */
  rabbitmqUrl?: string
  dies: 'before commit' | 'after commit' | 'never'
  /** Id of a message whose handling ends the process, or never ends. */
  deadly?: { messageId: string; by: 'SIGKILL' | 'an endless loop' }
}

const { databaseUrl, rabbitmqUrl, dies, deadly } = JSON.parse(process.argv[2]!) as HarbourProcess

const die = () => process.kill(process.pid, 'SIGKILL')

// First of all, as in the product: a message may come before it otherwise. As it is built: a thread
// of Node 20 loads no TypeScript.
const { startWatchdog } = (await import(
  new URL('../../packages/sagabox/dist/service/watchdog.js', import.meta.url).href
)) as typeof import('../../packages/sagabox/src/service/watchdog.ts')
startWatchdog(1)

const transport: Transport = rabbitmqUrl
  ? new RabbitTransport({ url: rabbitmqUrl, topology, clientName: 'harbour', log })
  : new MemoryTransport(topology)

const subscribe = transport.subscribe.bind(transport)
transport.subscribe = (endpoint, receive) =>
  subscribe(endpoint, (delivery) =>
    receive({
      ...delivery,
      ack() {
        if (dies === 'after commit') die()
        delivery.ack()
        process.send!('acknowledged')
      }
    })
  )

const service = await TestService.open(databaseUrl, transport)
service.listen('harbour', [
  writes('harbour', DockShip, {
    async then(messages) {
      if (dies === 'before commit') die()
      if (!messages.some(({ messageId }) => messageId === deadly?.messageId)) return
      if (deadly?.by === 'SIGKILL') die()
      for (;;);
    }
  })
])
service.relay.start()

process.once('disconnect', () => {
  void service.stop().then(() => transport.stop())
})
