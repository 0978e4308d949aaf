// The command line against the running system, as operators use it.
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import type {
  PublishOutcome,
  Transport
} from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { runCommand, startCommand } from '../support/cli.ts'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(600_000)

/** No line is wider than a terminal. */
function fits(t: Test, out: string): void {
  t.same(
    out.split('\n').filter((line) => line.length > 80),
    []
  )
}

t.test('sagas: listed in pages, shown, watched, replayed, exported', async (t) => {
  const { api, system } = await startSystem(t, 'memory')
  const env = { SAGABOX_URL: system.url }
  await api.putProduct('keyboard', 10)
  const orderIds = [await api.placeOrder(), await api.placeOrder(), await api.placeOrder()]
  for (const orderId of orderIds) await api.settled(orderId)
  const [first] = orderIds as [string]

  const page = await runCommand(['sagas', 'list', '--limit', '2'], env)
  t.equal(page.code, 0, page.err)
  fits(t, page.out)
  const [head, ...lines] = page.out.split('\n')
  t.match(head, /^SAGA {34}STATE {6}UPDATED {14}STUCK$/)
  t.match(
    lines[0],
    new RegExp(`^${orderIds[2]}  Completed  \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d$`)
  )
  const [, cursor] = /--cursor (\S+)/.exec(page.out)!
  const rest = await runCommand(['sagas', 'list', '--cursor', cursor!, '--utc'], env)
  t.match(rest.out, new RegExp(`^SAGA.*\n${first}  Completed  .*Z\n$`))
  const json = JSON.parse((await runCommand(['sagas', 'list', '--json'], env)).out)
  t.same(
    json.items.map(({ sagaId }: { sagaId: string }) => sagaId),
    orderIds.toReversed()
  )
  t.match(await runCommand(['sagas', 'list', '--stuck'], env), { code: 0, out: 'No instance\n' })

  const shown = await runCommand(['sagas', 'show', first, '--saga', 'order', '--utc'], env)
  t.equal(shown.code, 0, shown.err)
  t.match(shown.out, new RegExp(`^${first}  Completed\n`))
  t.match(shown.out, /^#  AFTER  EVENT/m)
  t.match(shown.out, /^3 .* PaymentCompletedEvent +Completed +OrderCompletedEvent$/m)

  t.match(await runCommand(['sagas', 'watch', first], env), {
    code: 0,
    out: /1 \S+: - -> .*\n.*\nEnded in Completed\n$/s
  })
  t.match(await runCommand(['sagas', 'replay', first], env), {
    code: 0,
    out: /^\d steps replay as recorded, to Completed\n$/
  })
  t.match(await runCommand(['sagas', 'retry', first], env), {
    code: 1,
    err: /^sagabox: Saga .* waits for the answer to no command: there is nothing to send again\n$/
  })
  t.match(await runCommand(['sagas', 'show', randomUUID()], env), {
    code: 1,
    err: /^sagabox: There is no saga/
  })

  const exported = await runCommand(['sagas', 'export', '--limit', '2'], env)
  t.equal(exported.code, 0, exported.err)
  t.same(
    exported.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).sagaId),
    [orderIds[2], orderIds[1]]
  )
  t.match(await runCommand(['sagas', 'export', '--state', 'Nowhere'], env), { code: 2 })
})

t.test('a watch goes on until Ctrl-C, and says so', async (t) => {
  const { api, system } = await startSystem(t, 'memory', { services: ['order'] })
  const orderId = await api.placeOrder()
  const env = { SAGABOX_URL: system.url }
  for (const args of [
    ['sagas', 'watch', orderId],
    ['sagas', 'watch']
  ]) {
    const watching = startCommand(args, env)
    await until('it has shown something', async () => watching.out().includes('\n'))
    watching.send('SIGINT')
    t.match(await watching.ended, { code: 0, err: 'Stopped watching; nothing else was stopped\n' })
  }
})

t.test('letters: grouped, listed, shown, sent back one by one and together, deleted', async (t) => {
  const { api, system, databaseUrl } = await startSystem(t, 'memory', {
    settings: { redeliverySeconds: [], deadlineSeconds: 600 }
  })
  const env = { SAGABOX_URL: system.url }
  const database = new pg.Client({ connectionString: databaseUrl })
  await database.connect()
  t.teardown(() => database.end())
  await api.putProduct('keyboard', 100)
  t.match(await runCommand(['letters', 'groups'], env), { code: 0, out: 'No dead letter\n' })
  const watching = startCommand(['letters', 'watch', '--service', 'payment', '--json'], env)
  await database.query('alter table payment_service.payments rename column amount to amount_away')
  const orderIds: string[] = []
  // One after the other: the first letter is the first order's.
  for (const letters of [1, 2, 3]) {
    orderIds.push(await api.placeOrder())
    await until('it is a dead letter', async () => {
      return (await api.get('/ops/payment/dead-letters/groups')).total === letters
    })
  }

  const groups = await runCommand(['letters', 'groups'], env)
  t.equal(groups.code, 1)
  fits(t, groups.out)
  t.match(groups.out, /^SERVICE  COUNT  STATUS +TYPE.*\npayment {6}3  waiting  StockReserved/)
  const list = ['letters', 'list', '--service', 'payment']
  const listed = await runCommand([...list, '--limit', '2'], env)
  fits(t, listed.out)
  t.match(listed.out, /--cursor \S+\n$/)
  const items = JSON.parse((await runCommand([...list, '--json'], env)).out).items
  const [first, second] = items.map(({ id }: { id: number }) => String(id))
  t.match(await runCommand(['letters', 'list'], env), {
    code: 2,
    err: /^sagabox: whose\? Expected --service order or stock or payment\n/
  })
  const show = await runCommand(['letters', 'show', first, '--service', 'payment'], env)
  t.match(show, { code: 0, out: /reason +.*column "amount"/ })
  t.match(show.out, /^Attempts$/m)
  t.match(show.out, /^Payload, \d+ bytes$/m)

  await database.query('alter table payment_service.payments rename column amount_away to amount')
  const payment = ['--service', 'payment']
  t.match(await runCommand(['letters', 'retry', first, ...payment], env), {
    code: 0,
    out: `Letter ${first} was sent back\n`
  })
  t.match(await runCommand(['letters', 'delete', second, '--why', 'no', ...payment], env), {
    code: 0,
    out: `Letter ${second} was deleted\n`
  })
  t.match(await runCommand(['letters', 'retry', ...payment], env), { code: 2, err: /which\?/ })
  t.match(await runCommand(['letters', 'retry', second, '--all', ...payment], env), { code: 2 })
  const together = ['letters', 'retry', '--type', 'StockReservedEvent', ...payment]
  t.match(await runCommand(together, env), { code: 2, err: /why\? Expected --why/ })
  together.push('--why', 'the column is back')
  const began = await runCommand(together, env)
  t.match(began, { code: 0, out: /^Group retry \d+ has begun; 1 letters fit/ })
  const [, id] = /retry (\d+)/.exec(began.out)!
  t.match(await runCommand(['letters', 'watch', id!, ...payment], env), {
    code: 0,
    out: /done: 1 sent, 1 handled, 0 failed again, 0 under way, 0 lost, 0 left\n$/
  })
  t.match(await runCommand(['letters', 'show', second, ...payment], env), { code: 1 })
  t.match(await api.settled(orderIds[0]!), { state: 'Completed' })
  watching.send('SIGINT')
  t.match(await watching.ended, { code: 0 })
})

t.test('outbox: what no queue takes is listed, and discarded for a reason', async (t) => {
  const { api, system } = await startSystem(t, 'memory', {
    wrap: (transport) =>
      new Proxy(transport, {
        get(target, key) {
          const value: unknown = Reflect.get(target, key, target)
          if (key === 'publish') {
            const publish: Transport['publish'] = (message): Promise<PublishOutcome> =>
              message.destination.endsWith(':OrderCreatedEvent')
                ? Promise.resolve('refused')
                : target.publish(message)
            return publish
          }
          return typeof value === 'function' ? value.bind(target) : value
        }
      })
  })
  const env = { SAGABOX_URL: system.url }
  const list = ['outbox', 'list', '--service', 'order']
  t.match(await runCommand(list, env), { code: 0, out: 'Nothing waits in the outbox\n' })
  await api.placeOrder()
  const listed = await until('it is put off', async () => {
    const ran = await runCommand(list, env)
    return ran.code === 1 && ran
  })
  fits(t, listed.out.replace(/^Last error:\n.*\n/m, ''))
  t.match(listed.out, /^1 wait, .*\n\n *ID  SINCE .*\n *\d+ .* Contracts:OrderCreated/s)
  const [, id] = /^ *(\d+) {2}\d{4}-/m.exec(listed.out)!
  const discard = ['outbox', 'discard', id!, '--service', 'order']
  t.match(await runCommand(discard, env), { code: 2, err: /Expected --reason TEXT/ })
  await until('it is not being tried', async () => {
    const { code, out } = await runCommand([...discard, '--reason', 'gone'], env)
    return code === 0 && /is not sent any more/.test(out)
  })
  t.match(await runCommand(list, env), { code: 0 })
})

t.test('a key is sent as a bearer token, from wherever it comes', async (t) => {
  const { system } = await startSystem(t, 'memory', { services: ['order'] })
  const seen: (string | undefined)[] = []
  system.app.server.prependListener('request', ({ headers }) => seen.push(headers.authorization))
  const folder = mkdtempSync(join(tmpdir(), 'sagabox-key-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'key'), 'from-file\n')
  const url = ['--url', `${system.url}/`]
  const list = ['sagas', 'list', '--saga', 'order', ...url]
  t.match(await runCommand(list), { code: 0 })
  t.match(await runCommand(list, { SAGABOX_KEY_FILE: join(folder, 'key') }), { code: 0 })
  t.match(await runCommand(list, { SAGABOX_KEY: 'from-variable' }), { code: 0 })
  t.match(await runCommand([...list, '--key', 'from-option'], { SAGABOX_KEY: 'x' }), { code: 0 })
  t.same(seen, [undefined, 'Bearer from-file', 'Bearer from-variable', 'Bearer from-option'])
  const refused = await runCommand([...list, '--key', 'secret words'])
  t.match(refused, { code: 2, err: /^sagabox: the key is/ })
  t.notMatch(refused.err, /secret/)
  t.match(await runCommand(list, { SAGABOX_KEY_FILE: join(folder, 'none') }), {
    code: 2,
    err: /SAGABOX_KEY_FILE cannot be read/
  })
})
