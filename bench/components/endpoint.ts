// Messages a second through an endpoint: from the end of its first transaction to the end of its
// last.
import type { ConsumeMessage } from 'amqplib'
import type pg from 'pg'
import {
  EnvelopeWriter,
  destinationOf
} from '../../packages/sagabox/src/messaging/message/envelope.ts'
import { handle, type Handler } from '../../packages/sagabox/src/messaging/endpoint/handler.ts'
import type { Message } from '../../packages/sagabox/src/messaging/message/message.ts'
import { run, statement, type Tx } from '../../packages/sagabox/src/messaging/postgres/sql.ts'
import type {
  TransportMessage,
  Transport
} from '../../packages/sagabox/src/messaging/transport/transport.ts'
import { batches } from '../floor/service.ts'
import type { Servers } from '../servers.ts'
import { against, inTurn, scaled, Tally, type Carrier, type ComponentResult } from './result.ts'
import { BenchPingedEvent, inWorld, pings, RECEIVER, type World } from './world.ts'

/**
 * Publishes kept ahead of an endpoint in memory: what the relay would keep in flight at most is
 * 4000.
 */
const AHEAD = 2000

const INSERT = `insert into effects (message_id, note) select * from unnest($1::uuid[], $2::text[])`
const INSERT_ALL = statement(INSERT)
const RECORD_NEW = `insert into inbox (message_id, endpoint) select id, '${RECEIVER}' from unnest($1::uuid[]) as id order by id on conflict do nothing returning message_id`

type Pinged = Message<typeof BenchPingedEvent>

interface Work {
  name: string
  messages: number
  ours(messages: Pinged[], tx: Tx): Promise<Message[]>
  /** The same by hand, on a connection with an open transaction. */
  byHand?(messages: readonly Ping[], client: pg.Client): Promise<void>
}

interface Ping {
  messageId: string
  note: string
}

function columns(messages: readonly Ping[]): [string[], string[]] {
  return [messages.map(({ messageId }) => messageId), messages.map(({ note }) => note)]
}

function pingOf({ messageId, body: { note } }: Pinged): Ping {
  return { messageId, note }
}

const WORKS: readonly Work[] = [
  { name: 'empty handler', messages: 10_000, ours: async () => [] },
  {
    name: 'handler with one insert a batch',
    messages: 10_000,
    async ours(messages, tx) {
      await run(tx, INSERT_ALL, columns(messages.map(pingOf)))
      return []
    },
    async byHand(messages, client) {
      await client.query({ name: 'insert', text: INSERT, values: columns(messages) })
    }
  },
  {
    name: 'handle() with one insert a message',
    messages: 4000,
    ours: (messages, tx) =>
      handle(BenchPingedEvent, async (_body, { message }) => {
        await run(tx, INSERT_ALL, columns([pingOf(message)]))
      }).handle(messages, tx),
    async byHand(messages, client) {
      for (const message of messages)
        await client.query({ name: 'insert', text: INSERT, values: columns([message]) })
    }
  }
]

export async function endpointMessages(
  servers: Servers,
  carrier: Carrier,
  scale: number,
  report: (line: ComponentResult) => void
): Promise<void> {
  await inWorld(servers, 'endpoint', carrier, async (world) => {
    const receiver = await world.service(RECEIVER)
    await receiver.database.rows(
      'create table effects (message_id uuid primary key, note text not null)'
    )
    const client = await world.client(RECEIVER)
    for (const work of WORKS) {
      const count = scaled(work.messages, scale)
      const own = async () => {
        const messages = messagesFor(world.transport, count)
        if (carrier === 'rabbitmq') await publish(world.transport, messages)
        const tally = new Tally(count)
        receiver.listen(counted(work, tally))
        if (carrier === 'memory') await publish(world.transport, messages)
        const rate = await tally.rate()
        await receiver.stopListening()
        return rate
      }
      const other = async () => {
        const messages = messagesFor(world.transport, count)
        if (carrier === 'memory') return handleByHand(messages, work, client)
        await publish(world.transport, messages)
        return consumeByHand(world, count, work, client)
      }
      report({
        name: `endpoint, ${work.name}`,
        transport: carrier,
        unit: 'messages/s',
        ...against(baselineOf(carrier, work), await inTurn(own, other)),
        detail: `${count} messages`
      })
    }
  })
}

function baselineOf(carrier: Carrier, { byHand }: Work): string {
  const carried = carrier === 'rabbitmq' ? 'amqplib, prefetch 200, one ack for 100' : 'no transport'
  if (byHand) return `by hand: ${carried}, JSON.parse, pg with inbox and the same inserts`
  return carrier === 'rabbitmq'
    ? `by hand: ${carried}, no database, nothing parsed`
    : `by hand: ${carried}, JSON.parse, pg with inbox`
}

function counted({ ours }: Work, tally: Tally): Handler {
  let size = 0
  return {
    contracts: [BenchPingedEvent],
    handle(messages, tx) {
      size = messages.length
      return ours(messages as Pinged[], tx)
    },
    committed: () => tally.add(size)
  }
}

function messagesFor({ address }: Transport, count: number): TransportMessage[] {
  return pings(count).map((ping) => ({
    messageId: ping.messageId,
    destination: destinationOf(ping.contract),
    required: true,
    payload: new EnvelopeWriter(address, 'sender').write(ping)
  }))
}

/** Resolves when the transport has accepted all. */
async function publish(transport: Transport, messages: readonly TransportMessage[]): Promise<void> {
  const next = messages.values()
  await Promise.all(
    Array.from({ length: AHEAD }, async () => {
      for (const message of next)
        if ((await transport.publish(message)) !== 'accepted')
          throw new Error('A message came back')
    })
  )
}

async function handleByHand(
  messages: readonly TransportMessage[],
  work: Work,
  client: pg.Client
): Promise<number> {
  const tally = new Tally(messages.length)
  for (let done = 0; done < messages.length; done += 100) {
    const batch = messages.slice(done, done + 100).map(({ payload }) => payload.toString())
    await transactByHand(batch, work, client)
    tally.add(batch.length)
  }
  return tally.rate()
}

async function consumeByHand(
  world: World,
  count: number,
  work: Work,
  client: pg.Client
): Promise<number> {
  const channel = await (await world.amqp()).createChannel()
  await channel.prefetch(200)
  const tally = new Tally(count)
  let arrived: ConsumeMessage[] = []
  const take = batches(async (batch: ConsumeMessage[]) => {
    await transactByHand(
      batch.map(({ content }) => content.toString()),
      work,
      client
    )
    channel.ack(batch.at(-1)!, true)
    tally.add(batch.length)
  })
  await channel.consume(RECEIVER, (message) => {
    if (!message) return
    if (work.byHand) return take(message)
    arrived.push(message)
    if (arrived.length < 100) return
    channel.ack(message, true)
    tally.add(arrived.length)
    arrived = []
  })
  const rate = await tally.rate()
  await channel.close()
  return rate
}

async function transactByHand(
  payloads: readonly string[],
  { byHand }: Work,
  client: pg.Client
): Promise<void> {
  const messages = payloads.map((payload) => {
    const { messageId, message } = JSON.parse(payload) as {
      messageId: string
      message: { note: string }
    }
    return { messageId, note: message.note }
  })
  await client.query('begin')
  await client.query({
    name: 'record-new',
    text: RECORD_NEW,
    values: [messages.map(({ messageId }) => messageId)]
  })
  await byHand?.(messages, client)
  await client.query('commit')
}
