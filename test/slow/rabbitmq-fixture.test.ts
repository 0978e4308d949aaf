import { connect } from 'amqplib'
import { once } from 'node:events'
import t from 'tap'
import { rabbitmqForTests, startRabbitMQ } from '../support/rabbitmq.ts'
import { until } from '../support/until.ts'

t.test('a virtual host of its own carries a message', async (t) => {
  const broker = await rabbitmqForTests()
  const url = await broker.createVhost()
  t.teardown(() => broker.deleteVhost(url))

  const connection = await connect(url)
  t.teardown(() => connection.close())
  const channel = await connection.createConfirmChannel()
  await channel.assertQueue('letters', { durable: true, arguments: { 'x-queue-type': 'quorum' } })
  const received = new Promise<string>((resolve) => {
    void channel.consume('letters', (message) => {
      if (!message) return
      resolve(message.content.toString())
      channel.ack(message)
    })
  })
  channel.sendToQueue('letters', Buffer.from('hello'), { persistent: true })
  await channel.waitForConfirms()
  t.equal(await received, 'hello')

  await until('it is acknowledged', async () => {
    const [queue] = await broker.queues(url)
    return queue?.messages === 0 && queue.consumers === 1
  })
  t.match(await broker.queues(url), [
    { name: 'letters', type: 'quorum', ready: 0, unacknowledged: 0 }
  ])
})

t.test('closing every connection reaches the clients', async (t) => {
  const broker = await rabbitmqForTests()
  const url = await broker.createVhost('a name/with a slash')
  t.teardown(() => broker.deleteVhost('a name/with a slash'))
  const connection = await connect(url)
  connection.on('error', () => {}) // amqplib reports the forced close here too
  const closed = once(connection, 'close')
  t.equal(await broker.closeAllConnections(url), 1)
  const [reason] = await closed
  t.match(String(reason), /CONNECTION_FORCED|320/)
})

t.test('a killed private broker comes back with its durable messages', async (t) => {
  const broker = await startRabbitMQ()
  t.teardown(() => broker.stop())
  const before = await connect(broker.url)
  before.on('error', () => {}) // the kill
  const channel = await before.createConfirmChannel()
  channel.on('error', () => {})
  await channel.assertQueue('kept', { durable: true, arguments: { 'x-queue-type': 'quorum' } })
  channel.sendToQueue('kept', Buffer.from('still here'), { persistent: true })
  await channel.waitForConfirms()
  await broker.registered('/', ['kept'])

  await broker.kill()
  await t.rejects(connect(broker.url), { code: 'ECONNREFUSED' })
  await broker.restart()

  const after = await connect(broker.url)
  t.teardown(() => after.close())
  const message = await (await after.createChannel()).get('kept')
  t.equal(message && message.content.toString(), 'still here')
})
