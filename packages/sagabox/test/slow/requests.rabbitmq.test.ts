import t from 'tap'
import { handle } from '../../src/messaging/endpoint/handler.ts'
import { RequestClient } from '../../src/messaging/request/client.ts'
import {
  Depth,
  GetDepth,
  requestConformance,
  topology as requestTopology
} from '../suites/requests.ts'
import { rabbitmqBus } from '../../../../test/support/buses.ts'
import { log, TestService } from '../../../../test/support/harbour.ts'
import { latch } from '../../../../test/support/latch.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'

requestConformance(t, rabbitmqBus)

t.test('after a lost connection answers come again, and what was asked ends', async (t) => {
  const broker = await rabbitmqForTests()
  const bus = await rabbitmqBus(t)
  const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
  const service = await TestService.open(databaseUrl, bus.connect(requestTopology))
  t.teardown(() => service.stop())
  service.relay.start()
  const [begun, go] = [latch(), latch()]
  service.listen('harbour', [
    handle(GetDepth, async ({ berth }) => {
      begun.open()
      if (berth === 0) await go.opened
      return Depth({ metres: berth })
    })
  ])
  const client = new RequestClient({ transport: bus.connect(requestTopology), log })
  t.teardown(() => client.stop())
  const ended = client.request(GetDepth({ berth: 0 }), { timeout: '20s' }).then(
    () => 'answered',
    ({ code }: { code: string }) => code
  )
  await begun.opened
  t.ok((await broker.closeAllConnections(bus.url)) >= 4, 'connections were closed')
  go.open()
  // Sent again if need be, and answered when the queue of answers is there again.
  t.same(await client.request(GetDepth({ berth: 1 }), { timeout: '60s' }), { metres: 1 })
  t.ok(['answered', 'REQUEST_TIMED_OUT'].includes(await ended), await ended)
  await client.stop()
  await until('the queue of answers is gone', async () =>
    (await broker.queues(bus.url!)).every(({ name }) => !name.includes('_bus_'))
  )
})
