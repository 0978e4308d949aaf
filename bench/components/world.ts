// What the messaging benches stand on: an empty database and virtual host, one transport, and the
// product's own classes.
import { connect, type ChannelModel } from 'amqplib'
import pg from 'pg'
import Type from 'typebox'
import { v7 as uuidv7 } from 'uuid'
import { Database } from '../../packages/sagabox/src/messaging/postgres/database.ts'
import { Endpoint } from '../../packages/sagabox/src/messaging/endpoint/endpoint.ts'
import type { Handler } from '../../packages/sagabox/src/messaging/endpoint/handler.ts'
import type { Log } from '../../packages/sagabox/src/messaging/async/log.ts'
import { MemoryTransport } from '../../packages/sagabox/src/messaging/transport/memory.ts'
import {
  event,
  message,
  type Message
} from '../../packages/sagabox/src/messaging/message/message.ts'
import { Outbox } from '../../packages/sagabox/src/messaging/outbox/outbox.ts'
import { RabbitTransport } from '../../packages/sagabox/src/messaging/rabbitmq/transport.ts'
import { Relay } from '../../packages/sagabox/src/messaging/outbox/relay.ts'
import { Session } from '../../packages/sagabox/src/messaging/postgres/session.ts'
import { topologyOf } from '../../packages/sagabox/src/messaging/transport/topology.ts'
import type { Transport } from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { until } from '../../test/support/until.ts'
import type { Servers } from '../servers.ts'
import type { Carrier } from './result.ts'
import { migrationsOf } from '../../test/support/migrations.ts'

export const BenchPingedEvent = event('BenchPingedEvent', {
  owner: 'sender',
  correlateBy: 'pingId',
  schema: Type.Object({ pingId: Type.String({ format: 'uuid' }), note: Type.String() })
})

/** The one endpoint, and its queue. */
export const RECEIVER = 'receiver'

const topology = topologyOf([{ name: RECEIVER, consumes: [BenchPingedEvent] }], [BenchPingedEvent])

/** Problems only. */
const log: Log = {
  debug() {},
  info() {},
  warn: (details, text) => console.error(text, details),
  error: (details, text) => console.error(text, details)
}

export function pings(count: number): Message<typeof BenchPingedEvent>[] {
  return Array.from({ length: count }, () =>
    message(BenchPingedEvent, {
      pingId: uuidv7(),
      note: 'as long as a message of two order lines is, which is about a hundred and fifty characters beside its own id'
    })
  )
}

/** Runs a bench in a world of its own. */
export async function inWorld<R>(
  servers: Servers,
  name: string,
  carrier: Carrier,
  bench: (world: World) => Promise<R>
): Promise<R> {
  const { databaseUrl, rabbitmqUrl, drop } = await servers.fresh(`${name}_${carrier}`)
  try {
    const world = new World(databaseUrl, rabbitmqUrl, carrier)
    try {
      await until('the transport can publish', async () => world.transport.canPublish)
      return await bench(world)
    } finally {
      await world.close()
    }
  } finally {
    await drop()
  }
}

export class World {
  readonly databaseUrl: string
  readonly transport: Transport
  readonly #rabbitmqUrl: string
  readonly #services: BenchService[] = []
  readonly #closing: (() => Promise<unknown>)[] = []

  constructor(databaseUrl: string, rabbitmqUrl: string, carrier: Carrier) {
    this.databaseUrl = databaseUrl
    this.#rabbitmqUrl = rabbitmqUrl
    this.transport =
      carrier === 'memory'
        ? new MemoryTransport(topology)
        : new RabbitTransport({ url: rabbitmqUrl, topology, clientName: 'bench', log })
    this.transport.start(() => {
      for (const service of this.#services) service.relay?.wake()
    })
  }

  /** A service with a schema of its own, connected and migrated. */
  async service(name: string): Promise<BenchService> {
    const service = await BenchService.open(name, this.databaseUrl, this.transport)
    this.#services.push(service)
    return service
  }

  /** A bare connection of pg for baselines, with the settings of ours. */
  async client(schema: string): Promise<pg.Client> {
    const client = new pg.Client({
      connectionString: this.databaseUrl,
      options: new Session({ url: this.databaseUrl, schema, applicationName: '', settings: {} })
        .startup
    })
    await client.connect()
    this.#closing.push(() => client.end())
    return client
  }

  /** A bare connection of amqplib for baselines. */
  async amqp(): Promise<ChannelModel> {
    const connection = await connect(this.#rabbitmqUrl, { noDelay: true })
    this.#closing.push(() => connection.close())
    return connection
  }

  async close(): Promise<void> {
    for (const service of this.#services) await service.stopRelay()
    for (const service of this.#services) await service.stop()
    for (const close of this.#closing) await close()
    await this.transport.stop()
  }
}

/** A service's pool, outbox, relay and endpoint, put together as src/service.ts does it. */
export class BenchService {
  readonly database: Database
  readonly outbox: Outbox
  readonly #name: string
  readonly #url: string
  readonly #transport: Transport
  relay: Relay | undefined
  #endpoint: Endpoint | undefined

  private constructor(name: string, url: string, transport: Transport, database: Database) {
    this.#name = name
    this.#url = url
    this.#transport = transport
    this.database = database
    this.outbox = new Outbox({
      database,
      address: transport.address,
      source: name,
      knows: (destination) => transport.knows(destination),
      committed: (rows) => this.relay?.offer(rows)
    })
  }

  static async open(name: string, url: string, transport: Transport): Promise<BenchService> {
    const migrations = ['messaging', 'saga'].map((folder) => migrationsOf(folder))
    const options = { url, schema: name, migrations, poolSize: 10, log }
    const database = new Database(options)
    await database.connect()
    return new BenchService(name, url, transport, database)
  }

  startRelay(): Relay {
    this.relay = new Relay({ url: this.#url, schema: this.#name, transport: this.#transport, log })
    this.relay.start()
    return this.relay
  }

  async stopRelay(): Promise<void> {
    await this.relay?.stop()
    this.relay = undefined
  }

  listen(handler: Handler): void {
    this.#endpoint = new Endpoint({
      definition: { name: RECEIVER, handlers: [handler] },
      outbox: this.outbox,
      transport: this.#transport,
      log
    })
    this.#endpoint.start()
  }

  async stopListening(): Promise<void> {
    await this.#endpoint?.stop()
    this.#endpoint = undefined
  }

  async stop(): Promise<void> {
    await this.stopRelay()
    await this.stopListening()
    await this.database.close()
  }
}
