// Three services, each with a user of its own that may do what `sagabox topology rights` prints.
import { execFileSync } from 'node:child_process'
import t from 'tap'
import { applyTopology } from '../../packages/sagabox/src/messaging/rabbitmq/compare.ts'
import { RabbitTransport } from '../../packages/sagabox/src/messaging/rabbitmq/transport.ts'
import { SERVICE_NAMES, shop, shopTopology } from '../../src/shop.ts'
import { Api } from '../support/api.ts'
import { runCommand } from '../support/cli.ts'
import { keptLog } from '../support/kept-log.ts'
import { postgresForTests } from '../support/postgres.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { System } from '../../packages/sagabox/src/service/system.ts'
import { testLog } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(600_000)

const settings = {
  deadlineSeconds: 30,
  redeliverySeconds: [],
  inboxDays: 7,
  paymentGateway: 'simulated' as const
}

t.test(
  'an order goes through with the least rights, and what is missing is waited for',
  async (t) => {
    const broker = await rabbitmqForTests()
    const admin = await broker.createVhost()
    t.teardown(() => broker.deleteVhost(admin))
    const vhost = decodeURIComponent(new URL(admin).pathname.slice(1))
    const { out } = await runCommand(['topology', 'rights'], { RABBITMQ_URL: admin })
    const urls = new Map<string, string>()
    for (const [place, name, configure, write, read] of permissionsIn(out)) {
      t.equal(place, vhost)
      t.equal(configure, '^$')
      const user = `${name}-${vhost}`
      await broker.setUser(user, vhost, { configure: configure!, write: write!, read: read! })
      t.teardown(() => broker.deleteUser(user))
      const url = new URL(admin)
      url.username = user
      url.password = 'secret'
      urls.set(name!, url.href)
    }
    t.same([...urls.keys()], [...SERVICE_NAMES])

    const databaseUrl = await (await postgresForTests()).createShop()
    const services = shop(settings)
    const log = keptLog()
    const systems = await Promise.all(
      SERVICE_NAMES.map((name) =>
        System.start({
          services: [services[name]],
          databaseUrls: { [name]: databaseUrl },
          transport: new RabbitTransport({
            url: urls.get(name)!,
            topology: shopTopology([name]),
            declares: false,
            clientName: name,
            log
          }),
          settings,
          host: '127.0.0.1',
          port: 0,
          log: testLog
        })
      )
    )
    t.teardown(() => Promise.all(systems.map((system) => system.stop())))
    await until('each names what is missing', async () =>
      systems.every((system) =>
        /queue \w+, .*TOPOLOGY=none|TOPOLOGY=none/.test(system.transport.problem() ?? '')
      )
    )
    t.match(systems[0]!.transport.problem(), /exchange Contracts:OrderCreatedEvent.*not there/)
    t.same(await broker.queues(admin), [], 'nothing was declared')

    await applyTopology(admin, shopTopology([...SERVICE_NAMES]))
    await Promise.all(systems.map((system) => system.started()))
    const [order, stock, payment] = systems.map((system) => new Api(system.url))
    await until('all are connected', async () => systems.every((one) => one.transport.canPublish))
    await stock!.putProduct('keyboard', 10, 8900)
    const placed = await order!.placeOrder({ items: [{ productId: 'keyboard', quantity: 1 }] })
    t.match(await order!.settled(placed), { status: 'Completed' })
    const declined = await order!.placeOrder({
      items: [{ productId: 'keyboard', quantity: 1 }],
      paymentMethod: 'pm_card_chargeDeclined'
    })
    t.match(await order!.settled(declined), { status: 'Failed' })
    await until(
      'the units of the failed order are back',
      async () => ((await stock!.get('/products/keyboard')) as { reserved: number }).reserved === 1
    )
    t.match(await payment!.get(`/payments/${placed}`), { status: 'Completed' })

    await t.test('one user may not speak for another, nor declare', async (t) => {
      const { connect } = await import('amqplib')
      const connection = await connect(urls.get('payment')!)
      connection.on('error', () => {})
      t.teardown(() => connection.close())
      const refused = async (
        act: (channel: Awaited<ReturnType<typeof connection.createConfirmChannel>>) => unknown
      ) => {
        const channel = await connection.createConfirmChannel()
        const error = new Promise((resolve) => channel.once('error', resolve))
        await Promise.resolve(act(channel)).catch(() => {})
        t.match(await error, { code: 403 })
      }
      await refused((channel) =>
        channel.publish('Contracts:StockReservedEvent', '', Buffer.from('{}'))
      )
      await refused((channel) => channel.publish('order', '', Buffer.from('{}')))
      await refused((channel) => channel.consume('stock', () => {}))
      await refused((channel) => channel.assertQueue('mine'))
    })
  }
)

/** What the lines give to rabbitmqctl, as a shell takes them apart. */
function permissionsIn(lines: string): string[][] {
  const script = `rabbitmqctl() { shift 2; printf '%s\\n' "$@"; echo; }\n${lines}`
  return execFileSync('sh', ['-c', script], { encoding: 'utf8' })
    .trimEnd()
    .split('\n\n')
    .map((one) => one.split('\n'))
}
