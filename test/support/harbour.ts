// A small system for the messaging tests: contracts of its own, and a process's worth of database,
// outbox, relay and endpoints.
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import Type from 'typebox'
import { v7 as uuidv7 } from 'uuid'
import { Database } from '../../packages/sagabox/src/messaging/postgres/database.ts'
import {
  Endpoint,
  type Concurrency
} from '../../packages/sagabox/src/messaging/endpoint/endpoint.ts'
import { handleBatch, type Handler } from '../../packages/sagabox/src/messaging/endpoint/handler.ts'
import {
  command,
  event,
  message,
  type Contract,
  type Message,
  type NewMessage
} from '../../packages/sagabox/src/messaging/message/message.ts'
import { describing, type Log } from '../../packages/sagabox/src/messaging/async/log.ts'
import { Outage } from '../../packages/sagabox/src/messaging/postgres/outage.ts'
import { Outbox } from '../../packages/sagabox/src/messaging/outbox/outbox.ts'
import { Relay } from '../../packages/sagabox/src/messaging/outbox/relay.ts'
import { run, statement, type Tx } from '../../packages/sagabox/src/messaging/postgres/sql.ts'
import {
  topologyOf,
  type EndpointTopology
} from '../../packages/sagabox/src/messaging/transport/topology.ts'
import type { Transport } from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { goPlainAsTold } from './quick-ways.ts'

goPlainAsTold()

const schema = Type.Object({ voyageId: Type.String({ format: 'uuid' }) })

/** Two endpoints take it. */
export const ShipSailedEvent = event('ShipSailedEvent', {
  owner: 'port',
  correlateBy: 'voyageId',
  schema
})
export const DockShip = command('DockShip', { owner: 'harbour', correlateBy: 'voyageId', schema })
export const ShipDockedEvent = event('ShipDockedEvent', {
  owner: 'harbour',
  correlateBy: 'voyageId',
  schema
})
/** Must reach somebody, and only the lighthouse takes it. */
export const ShipLostEvent = event('ShipLostEvent', {
  owner: 'port',
  correlateBy: 'voyageId',
  schema
})
/** Nobody takes it. */
export const ShipSightedEvent = event('ShipSightedEvent', {
  owner: 'port',
  correlateBy: 'voyageId',
  optional: true,
  schema
})

type ShipContract =
  | typeof ShipSailedEvent
  | typeof DockShip
  | typeof ShipDockedEvent
  | typeof ShipLostEvent
  | typeof ShipSightedEvent

const SENT = [ShipSailedEvent, DockShip, ShipDockedEvent, ShipLostEvent, ShipSightedEvent]

const HARBOUR = { name: 'harbour', consumes: [ShipSailedEvent, DockShip] }
const CUSTOMS = { name: 'customs', consumes: [ShipSailedEvent, ShipDockedEvent] }
const LIGHTHOUSE = { name: 'lighthouse', consumes: [ShipLostEvent] }

/** Without the lighthouse: its message has no queue. */
export const topology = harbourTopology([HARBOUR, CUSTOMS])
export const topologyWithLighthouse = harbourTopology([HARBOUR, CUSTOMS, LIGHTHOUSE])

function harbourTopology(endpoints: EndpointTopology[]) {
  return topologyOf(endpoints, SENT)
}

export const SCHEMA = 'port'

export const log = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' })

const MIGRATIONS = fileURLToPath(
  new URL('../../packages/sagabox/migrations/messaging', import.meta.url)
)

const EFFECTS = `
  create table if not exists effects (
    sequence bigint generated always as identity, endpoint text, contract text, voyage_id uuid, instance text,
    transaction xid8 not null default pg_current_xact_id())`

const WRITE = statement(`
  insert into effects (endpoint, contract, voyage_id, instance)
  select $1, contract, voyage_id, $2 from unnest($3::text[], $4::uuid[]) as written (contract,
    voyage_id)`)

export interface Effect {
  endpoint: string
  contract: string
  voyageId: string
  instance: string
  /** The transaction that handled the message. */
  transaction: string
}

export interface HandlerOptions {
  /** Tells two instances of an endpoint apart in their effects. */
  instance?: string
  /** Runs in the transaction, after the effect was written. */
  then?(messages: Message[], tx: Tx): Promise<Message[] | void>
}

/** A handler whose effect is one row a message. */
export function writes(
  endpoint: string,
  contract: ShipContract,
  { instance = '', then }: HandlerOptions = {}
): Handler {
  return handleBatch(contract as Contract, async (messages, tx) => {
    await run(tx, WRITE, [
      endpoint,
      instance,
      messages.map((taken) => taken.contract.name),
      messages.map(({ body }) => (body as { voyageId: string }).voyageId)
    ])
    return (await then?.(messages, tx)) ?? []
  })
}

export function ship(contract: ShipContract, voyageId = uuidv7()): NewMessage {
  return message(contract as typeof ShipSailedEvent, { voyageId })
}

export function ships(contract: ShipContract, count: number): NewMessage[] {
  return Array.from({ length: count }, () => ship(contract))
}

export function voyageOf(sent: Message): string {
  return (sent.body as { voyageId: string }).voyageId
}

export interface TestServiceOptions {
  /** After how long, ms, an outage of the database counts as long. */
  longOutageMs?: number
  log?: Log
}

/** What one process has: a pool, an outbox with its relay, and endpoints. */
export class TestService {
  readonly database: Database
  readonly outbox: Outbox
  readonly relay: Relay
  readonly transport: Transport
  readonly #endpoints: Endpoint[] = []
  readonly #log: Log

  private constructor(
    url: string,
    database: Database,
    transport: Transport,
    outage: Outage,
    told: Log
  ) {
    this.#log = told
    this.database = database
    this.transport = transport
    this.relay = new Relay({ url, schema: SCHEMA, transport, log: told })
    this.outbox = new Outbox({
      database,
      outage,
      address: transport.address,
      source: 'port',
      knows: (destination) => transport.knows(destination),
      committed: (rows) => this.relay.offer(rows),
      scheduled: () => this.relay.scheduled()
    })
  }

  /** Connects database and transport; the relay is the caller's to start. */
  static async open(
    url: string,
    transport: Transport,
    { longOutageMs, log: given = log }: TestServiceOptions = {}
  ): Promise<TestService> {
    const told = describing(given)
    const outage = new Outage(SCHEMA, told, longOutageMs)
    const options = { url, schema: SCHEMA, migrations: [MIGRATIONS], poolSize: 10, log, outage }
    const database = new Database(options)
    await database.connect()
    await database.rows(EFFECTS)
    const service = new TestService(url, database, transport, outage, told)
    transport.start(() => service.relay.wake())
    return service
  }

  /** Starts an endpoint; `transport` when it stands for another process than this service's. */
  listen(
    name: string,
    handlers: Handler[],
    transport = this.transport,
    concurrency?: Concurrency
  ): Endpoint {
    const endpoint = new Endpoint({
      definition: { name, handlers, concurrency },
      outbox: this.outbox,
      transport,
      log: this.#log
    })
    this.#endpoints.push(endpoint)
    endpoint.start()
    return endpoint
  }

  /** Commits messages in one transaction. */
  async send(...messages: Message[]): Promise<void> {
    await this.outbox.transaction(async (tx) => this.outbox.add(tx, messages))
  }

  /** Puts a text into the outbox as it is, addressed to an endpoint. */
  async sendText(endpoint: string, payload: string, messageId = uuidv7()): Promise<void> {
    await this.database.rows(
      'insert into outbox (message_id, destination, required, payload) values ($1, $2, true, $3)',
      [messageId, endpoint, payload]
    )
    this.relay.wake()
  }

  /** In the order in which they were written. */
  effects(): Promise<Effect[]> {
    return this.database.rows(
      `
        select endpoint, contract, voyage_id as "voyageId", instance, transaction::text from effects
          order by sequence`
    )
  }

  async count(table: 'outbox' | 'effects' | 'inbox' | 'dead_letter'): Promise<number> {
    const [row] = await this.database.rows(`select count(*)::integer as count from ${table}`)
    return row.count
  }

  async stop(): Promise<void> {
    await this.relay.stop()
    for (const endpoint of this.#endpoints) await endpoint.stop()
    await this.database.close()
  }
}
