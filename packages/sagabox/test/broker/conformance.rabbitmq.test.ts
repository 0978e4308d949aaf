import t from 'tap'
import type { Delivery } from '../../src/messaging/transport/transport.ts'
import { transportConformance } from '../suites/conformance.ts'
import { DockShip, ships, topology } from '../../../../test/support/harbour.ts'
import { rabbitmqBus } from '../../../../test/support/buses.ts'
import { until } from '../../../../test/support/until.ts'

transportConformance(t, rabbitmqBus)

t.test('no more messages are handed out than were asked for', async (t) => {
  const bus = await rabbitmqBus(t)
  const transport = bus.connect(topology)
  const handedOut: Delivery[] = []
  const { cancel } = transport.subscribe('harbour', (delivery) => void handedOut.push(delivery), 3)
  await until('messages can be sent', async () => transport.canPublish)
  const sent = ships(DockShip, 10).map(({ messageId }) => messageId)
  await Promise.all(
    sent.map((messageId) =>
      transport.publish({ messageId, destination: 'harbour', required: true, payload: '{}' })
    )
  )
  for (const [index, messageId] of sent.entries()) {
    await until(`${index + 1} have come`, async () => handedOut.length > index)
    t.ok(handedOut.length <= index + 3, 'three at a time')
    t.equal(handedOut[index]!.messageId, messageId)
    handedOut[index]!.ack()
  }
  await cancel()
})
