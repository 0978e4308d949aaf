import type { Test } from 'tap'
import type { Bus } from '../../../../test/support/buses.ts'
import {
  DockShip,
  ship,
  ships,
  ShipSailedEvent,
  ShipDockedEvent,
  TestService,
  topology,
  voyageOf,
  writes
} from '../../../../test/support/harbour.ts'
import { latch } from '../../../../test/support/latch.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { until } from '../../../../test/support/until.ts'

/** How much an endpoint does at once, and how it is paused. */
export function endpointConformance(t: Test, makeBus: (t: Test) => Promise<Bus>): void {
  t.setTimeout(120_000)

  async function open(t: Test) {
    const databaseUrl = await (await postgresForTests()).createDatabase(t.name)
    const bus = await makeBus(t)
    const service = await TestService.open(databaseUrl, bus.connect(topology))
    t.teardown(() => service.stop())
    service.relay.start()
    const handled = async (count: number) =>
      until(`${count} are handled`, async () => (await service.count('effects')) >= count)
    const voyages = async (endpoint: string) =>
      (await service.effects())
        .filter((effect) => effect.endpoint === endpoint)
        .map(({ voyageId }) => voyageId)
    return { bus, service, handled, voyages }
  }

  t.test('no more messages are in hand than it says', async (t) => {
    const { service, handled, voyages } = await open(t)
    const batches: number[] = []
    service.listen(
      'harbour',
      [
        writes('harbour', DockShip, {
          async then(messages) {
            batches.push(messages.length)
          }
        })
      ],
      undefined,
      { messages: 2 }
    )
    const sent = ships(DockShip, 30)
    await service.send(...sent)
    await handled(sent.length)
    t.ok(Math.max(...batches) <= 2, `${batches.join(' ')} messages a transaction`)
    t.same((await voyages('harbour')).toSorted(), sent.map(voyageOf).toSorted())
  })

  t.test('no more transactions run at once than it says', async (t) => {
    const { service, handled } = await open(t)
    let running = 0
    let most = 0
    const counted = {
      async then(_: unknown, tx: { query(sql: string): Promise<unknown> }) {
        most = Math.max(most, ++running)
        await tx.query('select pg_sleep(0.01)')
        running--
      }
    }
    service.listen(
      'harbour',
      [writes('harbour', DockShip, counted), writes('harbour', ShipSailedEvent, counted)],
      undefined,
      { messages: 5, transactions: 1 }
    )
    await service.send(...ships(DockShip, 20), ...ships(ShipSailedEvent, 20))
    await handled(40)
    t.equal(most, 1)
  })

  t.test('paused, it finishes what runs and gives the rest back; nothing is lost', async (t) => {
    const { bus, service, handled, voyages } = await open(t)
    const [begun, go] = [latch(), latch()]
    const endpoint = service.listen('harbour', [
      writes('harbour', DockShip, {
        async then() {
          begun.open()
          await go.opened
        }
      })
    ])
    service.listen('customs', [writes('customs', ShipDockedEvent)])
    const sent = ships(DockShip, 150)
    await service.send(...sent.slice(0, 50))
    await begun.opened
    await service.send(...sent.slice(50, 100))
    const paused = endpoint.pause()
    go.open()
    await paused
    const before = await voyages('harbour')
    t.ok(before.length > 0 && before.length < 100, `${before.length} were handled`)

    await service.send(...sent.slice(100), ship(ShipDockedEvent))
    await until('others go on', async () => (await voyages('customs')).length === 1)
    if (bus.url !== undefined)
      await until(
        'all others wait in the queue',
        async () => (await bus.kept('harbour')) === 150 - before.length
      )
    t.same(await voyages('harbour'), before)
    await endpoint.pause()

    endpoint.resume()
    endpoint.resume()
    await handled(151)
    await until('the outbox is empty', async () => (await service.count('outbox')) === 0)
    t.same((await voyages('harbour')).toSorted(), sent.map(voyageOf).toSorted(), 'each once')
    t.equal(await service.count('dead_letter'), 0)
  })

  t.test('while one process is paused, another takes the messages', async (t) => {
    const { bus, service, handled } = await open(t)
    const endpoint = service.listen('harbour', [writes('harbour', DockShip, { instance: 'one' })])
    const other = bus.connect(topology)
    service.listen('harbour', [writes('harbour', DockShip, { instance: 'other' })], other)
    await until('both consume', async () => other.problem() === undefined)
    await endpoint.pause()
    await service.send(...ships(DockShip, 40))
    await handled(40)
    t.same(new Set((await service.effects()).map(({ instance }) => instance)), new Set(['other']))
  })

  t.test('many messages for a paused endpoint hold nobody up', async (t) => {
    const { service, voyages } = await open(t)
    const endpoint = service.listen('harbour', [writes('harbour', DockShip)])
    service.listen('customs', [writes('customs', ShipDockedEvent)])
    await endpoint.pause()
    for (let i = 0; i < 9; i++) await service.send(...ships(DockShip, 500))
    await service.send(ship(ShipDockedEvent))
    await until('customs is told', async () => (await voyages('customs')).length === 1)
    endpoint.resume()
    await until('all are handled', async () => (await voyages('harbour')).length === 4500)
  })
}
