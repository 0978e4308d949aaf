// Events without their saga, as where somebody else has started them: they are in nobody's way.
import pg from 'pg'
import t from 'tap'
import { newId } from '../../packages/sagabox/src/messaging/message/id.ts'
import { EnvelopeWriter } from '../../packages/sagabox/src/messaging/message/envelope.ts'
import { PaymentCompletedEvent } from '../../src/contracts/payment.ts'
import { foreignChannel } from '../support/masstransit.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(300_000)

const ORPHANS = 3000

t.test(
  `${ORPHANS} of them fail a transaction a batch, not one each, and are one group`,
  async (t) => {
    const broker = await rabbitmqForTests()
    const rabbitmqUrl = await broker.createVhost()
    t.teardown(() => broker.deleteVhost(rabbitmqUrl))
    const { api, databaseUrl } = await startSystem(t, 'rabbitmq', { rabbitmqUrl })
    await api.putProduct('keyboard', 100_000)
    const order = async () => {
      const began = performance.now()
      const orderId = await api.placeOrder()
      await api.settled(orderId)
      return performance.now() - began
    }
    for (let warm = 0; warm < 20; warm++) await order()
    const alone = await order()
    const database = new pg.Client({ connectionString: databaseUrl })
    await database.connect()
    t.teardown(() => database.end())
    const rolledBack = async () => {
      const { rows } = await database.query(
        'select xact_rollback::int as count from pg_stat_database where datname = current_database()'
      )
      return rows[0].count as number
    }
    const before = await rolledBack()
    const channel = await foreignChannel(t, rabbitmqUrl)
    const writer = new EnvelopeWriter('rabbitmq://localhost/', 'payment')
    for (let sent = 0; sent < ORPHANS; sent++)
      channel.publish(
        PaymentCompletedEvent.exchange,
        '',
        Buffer.from(
          writer.write(PaymentCompletedEvent({ orderId: newId(), amount: 1000, currency: 'EUR' }))
        ),
        { contentType: 'application/vnd.masstransit+json', persistent: true, messageId: newId() }
      )
    await channel.waitForConfirms()
    const began = performance.now()
    const times = [await order(), await order(), await order()]
    const groups = await until('all are dead letters', async () => {
      const found = await api.get('/ops/order/dead-letters/groups')
      return found.total === ORPHANS && found
    })
    const took = performance.now() - began
    t.match(groups.groups, [
      { type: 'PaymentCompletedEvent', exception: 'NoInstance', count: ORPHANS }
    ])
    t.equal(groups.groups.length, 1)
    const failures = (await rolledBack()) - before
    const ms = (time: number) => `${Math.round(time)} ms`
    t.comment(
      `an order alone ${ms(alone)}, with them ${times.map(ms).join(', ')}; all letters after ${ms(took)}; ${failures} transactions failed`
    )
    t.ok(failures < ORPHANS / 20, `${failures} transactions failed: one a batch, none an orphan`)
  }
)
