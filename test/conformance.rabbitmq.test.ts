import t from 'tap'
import { RabbitTransport } from '../src/messaging/rabbitmq-transport.ts'
import { transportConformance } from './conformance.ts'
import { log } from './fixtures/harbour.ts'
import { rabbitmqForTests } from './fixtures/rabbitmq.ts'

const broker = await rabbitmqForTests()

transportConformance(t, async (t) => {
  const url = await broker.createVhost()
  t.teardown(() => broker.deleteVhost(url))
  return {
    url,
    findsLaterQueues: true,
    async kept(endpoint) {
      const queue = (await broker.queues(url)).find(({ name }) => name === endpoint)
      return queue?.messages ?? 0
    },
    connect(topology) {
      const transport = new RabbitTransport({ url, topology, clientName: 'conformance', log })
      t.teardown(() => transport.stop())
      transport.start(() => {})
      return transport
    }
  }
})
