// The travel agency of docs/tutorial/travel.md as three processes over RabbitMQ, two of which die.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import pg from 'pg'
import t, { type Test } from 'tap'
import { foreignChannel } from '../support/masstransit.ts'
import { postgresForTests } from '../support/postgres.ts'
import { ROOT } from '../support/program.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { until } from '../support/until.ts'

t.setTimeout(240_000)

/** One of the services, in a process of its own. */
class Service {
  url = ''
  readonly #child: ChildProcess
  readonly #ended: Promise<unknown>

  private constructor(t: Test, name: string, env: Record<string, string>) {
    const plain = Object.fromEntries(
      Object.entries(process.env).filter(([key]) => key !== 'NODE_OPTIONS')
    )
    this.#child = spawn(process.execPath, ['--import=tsx', 'docs/examples/travel/main.ts', name], {
      cwd: ROOT,
      env: { ...plain, ...env },
      stdio: ['ignore', 'pipe', 'inherit']
    })
    this.#ended = once(this.#child, 'close')
    t.teardown(() => this.kill())
  }

  static async start(t: Test, name: string, env: Record<string, string>): Promise<Service> {
    const service = new Service(t, name, env)
    for await (const line of createInterface(service.#child.stdout!)) {
      const [, url] = /listens at (\S+)/.exec(line) ?? []
      if (!url) continue
      service.url = url
      service.#child.stdout!.resume()
      return service
    }
    throw new Error(`${name} ended before it listened`)
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#ended
  }
}

interface Trip {
  status: string
  reason: string | null
}

t.test(
  'three processes, of which two are killed: each trip ends, whole or not at all',
  async (t) => {
    const databaseUrl = await (await postgresForTests()).createDatabase()
    const rabbitmqUrl = await (await rabbitmqForTests()).createVhost()
    const env = { DATABASE_URL: databaseUrl, RABBITMQ_URL: rabbitmqUrl }
    const weather = await foreignChannel(t, rabbitmqUrl)
    await weather.assertExchange('airport.weather', 'topic', { durable: true })
    const [first, flight] = await Promise.all(
      ['trip', 'flight', 'hotel'].map((name) => Service.start(t, name, env))
    )
    let trip = first!
    const tripIds: string[] = []

    const post = (path: string, body: object) =>
      fetch(trip.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body)
      })
    // A price that comes too late, on a busy machine, is asked for again: nothing was placed.
    const place = async (airport: string): Promise<void> => {
      const answer = await post('/trips', { airport, hotel: 'Avenida', nights: 2 })
      if (answer.status === 504) return place(airport)
      t.equal(answer.status, 202, await answer.clone().text())
      tripIds.push(((await answer.json()) as { tripId: string }).tripId)
    }
    const placeTen = async (airport: string) => {
      await Promise.all(Array.from({ length: 10 }, () => place(airport)))
    }
    const look = async (tripId: string) =>
      (await (await fetch(`${trip.url}/trips/${tripId}`)).json()) as Trip

    await Promise.all([placeTen('KEF'), placeTen('LIS')])
    await flight!.kill()
    const unanswered = await post('/trips', { airport: 'KEF', hotel: 'Avenida', nights: 1 })
    t.equal(unanswered.status, 504, 'no price, no trip')
    t.match(await unanswered.json(), { detail: /GetFare was not answered by flight within 5 s/ })

    await Service.start(t, 'flight', env)
    await Promise.all([placeTen('KEF'), placeTen('LIS')])
    await trip.kill()
    const closed = { airport: 'LIS', because: 'there is a storm', forHours: 3 }
    weather.publish('airport.weather', 'closed.LIS', Buffer.from(JSON.stringify(closed)))
    trip = await Service.start(t, 'trip', env)

    const ends = new Map<string, Trip>()
    await until(
      'each trip has ended',
      async () => {
        for (const tripId of tripIds.filter((id) => !ends.has(id))) {
          const found = await look(tripId)
          if (found.status === 'billed') await post(`/trips/${tripId}/payment`, {})
          if (['confirmed', 'failed'].includes(found.status)) ends.set(tripId, found)
        }
        return ends.size === 40
      },
      { progress: () => ends.size, tell: () => JSON.stringify([...ends.values()]) }
    )
    const confirmed = tripIds.filter((id) => ends.get(id)!.status === 'confirmed').toSorted()
    t.ok(confirmed.length >= 20, `${confirmed.length} confirmed: those to KEF, which is open`)
    for (const { status, reason } of ends.values())
      if (status === 'failed') t.match(reason, /there is a storm|the airport is closed/)

    const database = new pg.Client({ connectionString: databaseUrl })
    await database.connect()
    t.teardown(() => database.end())
    const column = async (sql: string) =>
      (await database.query<{ value: unknown }>(sql)).rows.map(({ value }) => value)
    const ids = (table: string) => `select trip_id::text as value from ${table} order by 1`
    t.same(await column(ids('flight_service.seats')), confirmed)
    t.same(await column(ids('hotel_service.stays')), confirmed)
    t.same(await column(`select rooms as value from hotel_service.hotels where name = 'Avenida'`), [
      100 - confirmed.length
    ])
    t.same(await column(`select closed as value from flight_service.airports order by code`), [
      null,
      'there is a storm'
    ])
    for (const service of ['trip', 'flight', 'hotel'])
      t.same(
        await column(`select exception as value from ${service}_service.dead_letter`),
        [],
        service
      )
  }
)
