// Queues declared anew under the hands of those who publish.
import { connect, type ConfirmChannel } from 'amqplib'
import type { Connection } from 'amqplib/callback_api.js'
import t, { type Test } from 'tap'
import { readQueueBindings } from '../../src/doctor/bindings.ts'
import { applyTopology } from '../../src/messaging/rabbitmq/compare.ts'
import { HandOver, type HandOverOptions } from '../../src/messaging/rabbitmq/hand-over.ts'
import { withConnection } from '../../src/messaging/rabbitmq/visit.ts'
import { newId } from '../../src/messaging/message/id.ts'
import { topologyOf } from '../../src/messaging/transport/topology.ts'
import { runCommand, startCommand } from '../../../../test/support/cli.ts'
import { DockShip, ShipSailedEvent } from '../../../../test/support/harbour.ts'
import { declareEndpoint, foreignChannel } from '../../../../test/support/masstransit.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'

t.setTimeout(600_000)
// Each has a virtual host of its own, and waits most of the time.
t.jobs = 4

const TYPES = [ShipSailedEvent, DockShip].map(({ exchange }) => exchange)
const NET = { 'x-queue-type': 'quorum' }
const QUEUES = ['harbour', 'harbour_error', 'harbour_skipped']

class Port {
  readonly url: string
  readonly managementUrl: string
  readonly channel: ConfirmChannel
  /** Ids of what was published, by the queue it belongs to. */
  readonly sent = new Map<string, string[]>()
  #under: Promise<unknown>[] = []

  constructor(url: string, managementUrl: string, channel: ConfirmChannel) {
    this.url = url
    this.managementUrl = managementUrl
    this.channel = channel
  }

  static async open(t: Test): Promise<Port> {
    const broker = await rabbitmqForTests()
    const url = await broker.createVhost()
    t.teardown(() => broker.deleteVhost(url))
    const port = new Port(url, broker.managementUrl, await foreignChannel(t, url))
    await applyTopology(
      url,
      topologyOf([{ name: 'harbour', consumes: [ShipSailedEvent, DockShip] }], [])
    )
    return port
  }

  /** To a queue of the endpoint, as others publish: without a look back. */
  publish(count: number, to = 'harbour'): void {
    const exchange = to === 'harbour' ? ShipSailedEvent.exchange : to
    for (let index = 0; index < count; index++) {
      const messageId = newId()
      this.sent.set(to, [...(this.sent.get(to) ?? []), messageId])
      this.#under.push(
        new Promise<void>((resolve, reject) =>
          this.channel.publish(
            exchange,
            '',
            Buffer.from(`{"n":${index}}`),
            { messageId, persistent: true, headers: { n: index } },
            (error: Error | null) => (error ? reject(error) : resolve())
          )
        )
      )
    }
  }

  async published(): Promise<void> {
    await Promise.all(this.#under.splice(0))
  }

  declareNet(): Promise<void> {
    return declareEndpoint(this.channel, 'harbour', NET, TYPES)
  }

  /** All that is in a queue, taken out of it. */
  async take(queue: string) {
    const found = []
    for (
      let message = await this.channel.get(queue, { noAck: true });
      message;
      message = await this.channel.get(queue, { noAck: true })
    )
      found.push(message)
    return found
  }

  async queues(): Promise<string[]> {
    const { queues } = await rabbitmqForTests()
    return (await queues.call(await rabbitmqForTests(), this.url)).map(({ name }) => name)
  }

  run(
    options: Partial<Omit<HandOverOptions, 'done'>> & {
      done(what: string, connection: Connection): void
    }
  ) {
    return withConnection(this.url, undefined, (connection) =>
      new HandOver({
        connection,
        endpoint: 'harbour',
        by: 'others',
        bindings: [],
        waitMs: 20_000,
        settledMs: 300,
        interrupted: new AbortController().signal,
        ...options,
        done: (what) => options.done(what, connection)
      }).run()
    )
  }

  get env() {
    return { RABBITMQ_URL: this.url, RABBITMQ_MANAGEMENT_URL: this.managementUrl }
  }

  /** Nothing was lost, and nothing is left of the change. */
  async check(t: Test, { mayRepeat = false } = {}): Promise<void> {
    await this.published()
    for (const [queue, ids] of this.sent) {
      const found = (await this.take(queue)).map(({ properties }) => String(properties.messageId))
      t.same([...new Set(found)].toSorted(), ids.toSorted(), `${queue}: nothing is lost`)
      if (!mayRepeat) t.equal(found.length, ids.length, `${queue}: nothing came twice`)
    }
    t.same(
      (await this.queues()).filter((name) => /_held/.test(name)),
      []
    )
    for (const mark of ['drained', 'pouring'])
      await t.rejects(
        connect(this.url).then(async (connection) => {
          t.teardown(() => connection.close().catch(() => {}))
          const channel = await connection.createChannel()
          channel.on('error', () => {})
          return channel.checkExchange(`harbour_held_${mark}`)
        }),
        /NOT_FOUND/
      )
  }
}

t.test(
  'a thousand messages are handed over with all that they have, and what comes meanwhile',
  async (t) => {
    const port = await Port.open(t)
    const properties = {
      contentType: 'application/vnd.masstransit+json',
      contentEncoding: 'utf-8',
      headers: {
        'MT-Fault-Message': 'boom',
        'MT-Fault-RetryCount': 3,
        flag: true,
        nothing: null,
        bytes: Buffer.from([0, 255]),
        at: { '!': 'timestamp', value: 1_790_000_000 },
        list: ['a', 1, { deep: 'b' }]
      },
      deliveryMode: 2,
      priority: 3,
      correlationId: 'c',
      replyTo: 'r',
      messageId: newId(),
      timestamp: 1_790_000_000,
      type: 'kind',
      appId: 'app'
    }
    const body = Buffer.from([0, 1, 2, 255])
    port.channel.publish('harbour_error', '', body, properties)
    port.publish(1000)
    port.publish(5, 'harbour_skipped')
    await port.published()
    await port.channel.waitForConfirms()
    const steps: string[] = []
    await port.run({
      done(what) {
        steps.push(what)
        port.publish(2)
        port.publish(1, 'harbour_skipped')
        if (what.startsWith('waiting until')) void port.declareNet()
      }
    })
    t.match(steps.join('\n'), /1000 messages of harbour moved to harbour_held\n/)
    const [letter, ...more] = await port.take('harbour_error')
    t.same(more, [])
    t.same(letter!.content, body)
    // Of the broker, at each delivery.
    delete letter!.properties.headers!['x-delivery-count']
    for (const [name, value] of Object.entries(properties))
      t.same(letter!.properties[name as 'type'], value, name)
    await port.check(t)
    for (const queue of QUEUES) await port.channel.assertQueue(queue, { arguments: NET })
  }
)

/** How many steps there are, with one to wait for. */
const STEPS = 22

for (let killed = 1; killed <= STEPS; killed++) {
  t.test(`killed after step ${killed}, it goes on`, async (t) => {
    const port = await Port.open(t)
    port.publish(60)
    port.publish(3, 'harbour_error')
    port.publish(3, 'harbour_skipped')
    await port.published()
    let [runs, net] = [0, Promise.resolve()]
    let ended = false
    while (!ended) {
      let step = 0
      const isLast = ++runs > 2
      ended = await new Promise<boolean>((resolve, reject) => {
        const running = port.run({
          settledMs: 150,
          done(what, connection) {
            port.publish(2)
            port.publish(1, 'harbour_error')
            if (what.startsWith('waiting until')) net = net.then(() => port.declareNet())
            if (++step !== killed || isLast) return
            destroy(connection)
            resolve(false)
            throw new Error('killed')
          }
        })
        running.then(() => resolve(true), reject)
      })
    }
    await net
    await port.check(t, { mayRepeat: true })
    for (const queue of ['harbour', 'harbour_error'])
      await port.channel.assertQueue(queue, { arguments: NET })
  })
}

/** As a process that is killed leaves it. */
function destroy(connection: Connection): void {
  const { connection: below } = connection as unknown as {
    connection: { stream: { destroy(): void } }
  }
  below.stream.destroy()
}

t.test('what a consumer gives back late is handed over, too', async (t) => {
  const port = await Port.open(t)
  // Of a classic queue nobody tells what is handed out; a quorum queue still has a consumer then.
  await port.channel.deleteQueue('harbour')
  await declareEndpoint(port.channel, 'harbour', {}, TYPES)
  port.publish(20)
  await port.published()
  const late = await foreignChannel(t, port.url)
  await late.prefetch(5)
  let held = 0
  const { consumerTag } = await late.consume('harbour', () => void held++)
  await until('it holds some', async () => held === 5)
  await late.cancel(consumerTag)
  await port.run({
    done(what) {
      if (what === 'what waited is kept') late.nackAll()
      if (what.startsWith('waiting until')) void port.declareNet()
    }
  })
  await port.check(t)
})

t.test('a hand-over that nobody takes up is undone by a take-over', async (t) => {
  const port = await Port.open(t)
  port.publish(30)
  await port.published()
  await t.rejects(port.run({ waitMs: 0, done: () => port.publish(1) }), {
    code: 'NOT_HANDED_OVER',
    message:
      /^harbour has not been declared in 0 s; what comes is kept in harbour_held, and this goes on/
  })
  port.publish(10)
  await port.run({ by: 'ours', done: () => port.publish(1) })
  await port.check(t)
  const again = topologyOf([{ name: 'harbour', consumes: [ShipSailedEvent, DockShip] }], [])
  t.same((await applyTopology(port.url, again)).findings, [], 'they are as Sagabox declares them')
})

t.test('bindings to exchanges of other names are kept', async (t) => {
  const port = await Port.open(t)
  await port.channel.assertExchange('legacy', 'topic')
  await port.channel.bindQueue('harbour', 'legacy', 'ship.*', { note: 'x' })
  const bindings = await readQueueBindings(port.managementUrl, port.url)
  let sent = 0
  await port.run({
    bindings,
    done(what) {
      sent++
      port.channel.publish('legacy', 'ship.docked', Buffer.from(`${sent}`), { messageId: newId() })
      if (what.startsWith('waiting until')) void port.declareNet()
    }
  })
  await port.channel.waitForConfirms()
  t.equal((await port.take('harbour')).length, sent)
  const after = await readQueueBindings(port.managementUrl, port.url)
  t.match(
    after.filter(({ source }) => source === 'legacy'),
    [{ queue: 'harbour', key: 'ship.*', arguments: { note: 'x' } }]
  )
})

t.test('the command refuses what cannot be done, and changes nothing', async (t) => {
  const port = await Port.open(t)
  const { consumerTag } = await port.channel.consume('harbour_error', () => {})
  port.publish(3)
  await port.published()
  for (const command of ['hand-over', 'take-over']) {
    t.match(await runCommand(['topology', command, 'harbour'], port.env), {
      code: 1,
      err: /^sagabox: harbour_error has a consumer: stop the service that takes it/
    })
    t.match(await runCommand(['topology', command, 'nobody'], port.env), {
      code: 1,
      err: /^sagabox: there is no queue nobody; expected the name of an endpoint/
    })
    t.match(await runCommand(['topology', command], port.env), { code: 2 })
    t.match(await runCommand(['topology', command, 'a b'], port.env), {
      code: 2,
      err: /^sagabox: a b is no endpoint/
    })
    t.match(await runCommand(['topology', command, 'harbour'], {}), { code: 2 })
    t.match(
      await runCommand(['topology', command, 'harbour'], {
        RABBITMQ_URL: 'amqp://guest:secret@127.0.0.1:1'
      }),
      { code: 3 }
    )
  }
  await port.channel.cancel(consumerTag)
  t.same((await port.queues()).toSorted(), QUEUES)
  await port.check(t)
})

t.test('the command is killed while it waits, and goes on; and back by take-over', async (t) => {
  const port = await Port.open(t)
  port.publish(100)
  await port.published()
  const first = startCommand(['topology', 'hand-over', 'harbour'], port.env)
  await until('it waits', async () => /waiting until harbour is declared/.test(first.out()))
  first.send('SIGKILL')
  await first.ended
  port.publish(10)
  await port.declareNet()
  const { code, out, err } = await runCommand(['topology', 'hand-over', 'harbour'], port.env)
  t.equal(code, 0, err)
  t.match(out, /^harbour is there again, and gets what is published\n/)
  t.match(out, /110 messages of harbour_held moved to harbour\n/)
  port.publish(1)
  const { code: back } = await runCommand(['topology', 'take-over', 'harbour', '--json'], port.env)
  t.equal(back, 0)
  await port.check(t)
  const again = topologyOf([{ name: 'harbour', consumes: [ShipSailedEvent, DockShip] }], [])
  t.same((await applyTopology(port.url, again)).findings, [])
})
