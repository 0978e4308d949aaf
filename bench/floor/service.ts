// What the three services of the floor share: one transaction for all messages that arrived
// meanwhile, an outbox published right after the commit, an inbox. pg and amqplib, nothing else.
import { connect, type ConfirmChannel, type ConsumeMessage } from 'amqplib'
import pg from 'pg'
import type { Duplex } from 'node:stream'
import { parameter } from '../../packages/sagabox/src/messaging/postgres/array-literal.ts'
import { newId } from '../../packages/sagabox/src/messaging/message/id.ts'
import { packWrites } from '../../packages/sagabox/src/messaging/rabbitmq/amqplib-patches.ts'
import { joinJson, jsonTexts } from '../../packages/sagabox/src/messaging/postgres/sql.ts'

export const BATCH = 100
const PREFETCH = 200
/**
 * Confirmed rows are deleted after this many ms, or when they are this many, as by Sagabox's relay.
 */
const FORGET_MS = 200
const FORGET = 250

export interface Envelope {
  id: string
  type: string
  body: Record<string, unknown>
}

/** Runs one statement, prepared under its name. */
export type Sql = <Row extends pg.QueryResultRow>(
  name: string,
  text: string,
  values: unknown[]
) => Promise<Row[]>

export interface Reply {
  type: string
  body: Record<string, unknown>
}

interface OutboxRow {
  id: string
  type: string
  payload: string
}

/** Which queue hears which message. */
export const ROUTES: Record<string, string[]> = {
  OrderCreatedEvent: ['stock'],
  StockReservedEvent: ['payment', 'order'],
  StockNotReservedEvent: ['order'],
  PaymentCompletedEvent: ['order'],
  PaymentFailedEvent: ['order'],
  ReleaseStock: ['stock'],
  StockReleasedEvent: ['order']
}
/** Nobody needs to hear these. */
const OPTIONAL = new Set(['OrderCompletedEvent', 'OrderFailedEvent'])

/** Collects what arrives while the last batch runs. */
export function batches<T>(work: (items: T[]) => Promise<void>): (item: T) => void {
  let waiting: T[] = []
  let running = false
  async function drain() {
    await new Promise(setImmediate)
    while (waiting.length > 0) {
      const items = waiting.slice(0, BATCH)
      waiting = waiting.slice(BATCH)
      await work(items)
    }
    running = false
  }
  return (item) => {
    waiting.push(item)
    if (running) return
    running = true
    drain().catch((error: unknown) => {
      // A floor has no error handling; what is not acknowledged is redelivered to the next process.
      console.error(error)
      process.exit(1)
    })
  }
}

/** One packet for all that is sent in this turn. */
function pack(client: pg.PoolClient): void {
  const { stream } = (client as unknown as { connection: { stream: Duplex } }).connection
  stream.cork()
  process.nextTick(() => stream.uncork())
}

export class FloorService {
  readonly #name: string
  readonly #pool: pg.Pool
  readonly #channel: ConfirmChannel
  readonly #consumer: ConfirmChannel
  #confirmed: string[] = []
  readonly #inFlight = new Set<string>()

  private constructor(
    name: string,
    pool: pg.Pool,
    channel: ConfirmChannel,
    consumer: ConfirmChannel
  ) {
    this.#name = name
    this.#pool = pool
    this.#channel = channel
    this.#consumer = consumer
  }

  static async open(name: string, databaseUrl: string, rabbitmqUrl: string): Promise<FloorService> {
    const pool = new pg.Pool({
      connectionString: databaseUrl,
      options: `-c search_path=${name}_service -c enable_seqscan=off`,
      max: 10,
      pipeline: true
    })
    const socket: object = { noDelay: true, writableHighWaterMark: 1024 * 1024 }
    const publishing = await connect(rabbitmqUrl, socket)
    const consuming = await connect(rabbitmqUrl, socket)
    packWrites(publishing as never)
    packWrites(consuming as never)
    const channel = await publishing.createConfirmChannel()
    const consumer = await consuming.createConfirmChannel()
    for (const queue of ['order', 'stock', 'payment'])
      await channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } })
    for (const [type, queues] of [
      ...Object.entries(ROUTES),
      ...[...OPTIONAL].map((optional) => [optional, []] as const)
    ]) {
      await channel.assertExchange(type, 'fanout', { durable: true })
      for (const queue of queues) await channel.bindQueue(queue, type, '')
    }
    const service = new FloorService(name, pool, channel, consumer)
    // The back-stop: rows of a process that died between its commit and its confirms.
    setInterval(() => void service.#sendForgotten(), 1000)
    setInterval(() => void service.#forget(), FORGET_MS)
    return service
  }

  /**
   * One transaction: the work, its messages into the outbox, commit; then they are published. What
   * the work does not wait for goes with the commit.
   */
  async transaction(work: (sql: Sql) => Promise<Reply[]>): Promise<void> {
    const client = await this.#pool.connect()
    try {
      const sent: Promise<unknown>[] = []
      const sql: Sql = async (name, text, values) => {
        pack(client)
        const result = client.query({ name, text, values: values.map(parameter) })
        sent.push(result)
        return (await result).rows as never
      }
      await client.query('begin')
      const replies = await work(sql)
      const messages = replies.map(({ type, body }) => {
        const id = newId()
        return { id, type, payload: JSON.stringify({ id, type, body }) }
      })
      const stored =
        messages.length > 0
          ? sql<{ id: string }>(
              'store',
              `
                insert into outbox (message_id, destination, required, payload) select *
                  from unnest($1::uuid[], $2::text[], $3::boolean[], ${jsonTexts(4)}) returning id`,
              [
                messages.map(({ id }) => id),
                messages.map(({ type }) => type),
                messages.map(({ type }) => !OPTIONAL.has(type)),
                joinJson(messages.map(({ payload }) => payload))
              ]
            )
          : Promise.resolve([])
      await Promise.all([...sent, client.query('commit')])
      this.#publish((await stored).map(({ id }, index) => ({ ...messages[index]!, id })))
    } finally {
      client.release()
    }
  }

  #publish(rows: readonly OutboxRow[]): void {
    for (const { id, type, payload } of rows) {
      this.#inFlight.add(id)
      this.#channel.publish(
        type,
        '',
        Buffer.from(payload),
        { persistent: true, mandatory: !OPTIONAL.has(type) },
        (error: unknown) => {
          if (!error) this.#confirmed.push(id)
          if (this.#confirmed.length >= FORGET) void this.#forget()
        }
      )
    }
  }

  async #forget(): Promise<void> {
    const ids = this.#confirmed.splice(0)
    if (ids.length === 0) return
    await this.#pool.query({
      name: 'forget',
      text: 'delete from outbox where id = any($1::bigint[])',
      values: [parameter(ids)]
    })
    for (const id of ids) this.#inFlight.delete(id)
  }

  async #sendForgotten(): Promise<void> {
    const { rows } = await this.#pool.query<OutboxRow>(
      `
        select id, destination as type, payload from outbox
          where created_at < now() - interval '5 seconds' order by id limit 500`
    )
    this.#publish(rows.filter(({ id }) => !this.#inFlight.has(id)))
  }

  /** Handles what arrives, each message once; acknowledges after the commit. */
  async consume(
    handle: (messages: Envelope[], sql: Sql) => Promise<Reply[]>,
    committed?: () => void
  ): Promise<void> {
    const take = batches(async (batch: ConsumeMessage[]) => {
      const messages = batch.map(({ content }) => JSON.parse(content.toString()) as Envelope)
      await this.transaction(async (sql) => {
        const fresh = await sql<{ message_id: string }>(
          'claim',
          'insert into inbox (message_id, endpoint) select id, $2 from unnest($1::uuid[]) as id order by id on conflict do nothing returning message_id',
          [messages.map(({ id }) => id), this.#name]
        ).then((rows) => new Set(rows.map((row) => row.message_id)))
        const unseen = messages.filter(({ id }) => fresh.delete(id))
        return unseen.length > 0 ? handle(unseen, sql) : []
      })
      this.#consumer.ack(batch.at(-1)!, true)
      committed?.()
    })
    await this.#consumer.prefetch(PREFETCH)
    await this.#consumer.consume(this.#name, (message) => message && take(message))
  }
}
