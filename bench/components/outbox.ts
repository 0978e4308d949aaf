// Outbox rows a second through the relay: from its start, connecting included, until the table is
// empty.
import type { ConfirmChannel } from 'amqplib'
import pg from 'pg'
import { CONTENT_TYPE } from '../../packages/sagabox/src/messaging/message/envelope.ts'
import type { OutboxRow } from '../../packages/sagabox/src/messaging/outbox/outbox-row.ts'
import { until } from '../../test/support/until.ts'
import type { Servers } from '../servers.ts'
import { against, inTurn, perSecond, scaled, type Carrier, type ComponentResult } from './result.ts'
import { inWorld, pings, RECEIVER, type BenchService } from './world.ts'

const BATCH = 500

export function outboxRows(
  servers: Servers,
  carrier: Carrier,
  scale: number
): Promise<ComponentResult> {
  const count = scaled(20_000, scale)
  return inWorld(servers, 'outbox', carrier, async (world) => {
    const sender = await world.service('sender')
    const channel =
      carrier === 'rabbitmq' ? await (await world.amqp()).createConfirmChannel() : undefined
    // In memory somebody has to take them; a queue of the broker keeps them.
    if (!channel) world.transport.subscribe(RECEIVER, (delivery) => delivery.ack())
    const prepare = async () => {
      await channel?.purgeQueue(RECEIVER)
      await fill(sender, count)
    }
    const own = async () => {
      await prepare()
      const rate = await perSecond(count, async () => {
        sender.startRelay()
        await until(
          'the outbox is empty',
          async () =>
            (await sender.database.rows('select id from outbox order by id limit 1')).length === 0
        )
      })
      await sender.stopRelay()
      return rate
    }
    const other = async () => {
      await prepare()
      return perSecond(count, async () => carryByHand(await world.client('sender'), channel))
    }
    const what = channel
      ? 'by hand: pg reads 500, amqplib publishes, all confirmed, one delete'
      : 'by hand: pg reads 500, one delete'
    return {
      name: 'outbox rows through the relay',
      transport: carrier,
      unit: 'rows/s',
      ...against(what, await inTurn(own, other)),
      detail: `${count} rows; ${channel ? 'nobody consumes' : 'the consumer acknowledges at once'}`
    }
  })
}

/** Real envelopes, committed while no relay runs. */
async function fill({ database, outbox }: BenchService, count: number): Promise<void> {
  await database.rows('truncate outbox')
  for (let done = 0; done < count; done += BATCH) {
    await outbox.transaction(async (tx) => outbox.add(tx, pings(Math.min(BATCH, count - done))))
  }
  await database.rows('analyze outbox')
  await database.rows('checkpoint')
}

async function carryByHand(client: pg.Client, channel: ConfirmChannel | undefined): Promise<void> {
  for (;;) {
    const { rows } = await client.query<OutboxRow>({
      name: 'read',
      text: `select id, message_id, destination, payload from outbox order by id limit ${BATCH}`
    })
    if (rows.length === 0) return
    if (channel) {
      for (const { message_id: messageId, destination, payload } of rows) {
        channel.publish(destination, '', Buffer.from(payload), {
          messageId,
          mandatory: true,
          persistent: true,
          contentType: CONTENT_TYPE
        })
      }
      await channel.waitForConfirms()
    }
    await client.query({
      name: 'delete',
      text: 'delete from outbox where id = any($1::bigint[])',
      values: [rows.map(({ id }) => id)]
    })
  }
}
