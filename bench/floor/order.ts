import Fastify, { type FastifyInstance } from 'fastify'
import { newId } from '../../packages/sagabox/src/messaging/message/id.ts'
import { joinJson, jsonTexts } from '../../packages/sagabox/src/messaging/postgres/sql.ts'
import { batches, type Envelope, type FloorService, type Reply, type Sql } from './service.ts'

export interface NewOrder {
  customerId: string
  items: { productId: string; quantity: number }[]
  paymentMethod: string
}

interface Waiting {
  orderId: string
  order: NewOrder
  resolve(): void
  reject(error: unknown): void
}

export const NEW_ORDER = {
  type: 'object',
  additionalProperties: false,
  required: ['customerId', 'items', 'paymentMethod'],
  properties: {
    customerId: { type: 'string', minLength: 1, maxLength: 100 },
    paymentMethod: { type: 'string', enum: ['pm_card_visa', 'pm_card_chargeDeclined'] },
    items: {
      type: 'array',
      minItems: 1,
      maxItems: 100,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['productId', 'quantity'],
        properties: {
          productId: { type: 'string', minLength: 1, maxLength: 100 },
          quantity: { type: 'integer', minimum: 1 }
        }
      }
    }
  }
}

export function startOrder(service: FloorService): FastifyInstance {
  const place = batches(async (batch: Waiting[]) => {
    try {
      await service.transaction((sql) => insertOrders(sql, batch))
      for (const { resolve } of batch) resolve()
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
  })
  const app = Fastify()
  app.addHook('onReady', () => service.consume(moveOrders))
  app.get('/health/ready', () => ({ status: 'ok' }))
  app.post<{ Body: NewOrder }>(
    '/orders',
    { schema: { body: NEW_ORDER } },
    async ({ body }, reply) => {
      const orderId = newId()
      await new Promise<void>((resolve, reject) => place({ orderId, order: body, resolve, reject }))
      return reply.code(202).send({ orderId, status: 'Suspend' })
    }
  )
  return app
}

async function insertOrders(sql: Sql, batch: readonly Waiting[]): Promise<Reply[]> {
  const lines = batch.flatMap(({ orderId, order }) =>
    order.items.map((item, index) => ({ orderId, line: index + 1, ...item }))
  )
  const events = batch.map(({ orderId, order }) => ({ orderId, ...order }))
  void sql(
    'place',
    `with placed as (
      insert into orders (order_id, customer_id, payment_method) select *
        from unnest($1::uuid[], $2::text[], $3::text[])
    ), lines as (
      insert into order_lines (order_id, line, product_id, quantity) select *
        from unnest($4::uuid[], $5::integer[], $6::text[], $7::integer[])
    ), started as (
      insert into saga (saga, saga_id, state, value, context, version, timers, next_timer_at)
      select 'order', id, 'Suspend.reservingStock', '{"Suspend":"reservingStock"}', context, 1,
        '[]', now() + interval '30 seconds' from unnest($1::uuid[],
        ${jsonTexts(8)}::jsonb[]) as started (id, context)
    )
    insert into saga_history (saga, saga_id, sequence, event, body, to_state, sent)
    select 'order', id, 1, 'OrderCreatedEvent', body, 'Suspend.reservingStock', '[]'
      from unnest($1::uuid[], ${jsonTexts(9)}::jsonb[]) as history (id, body)`,
    [
      batch.map(({ orderId }) => orderId),
      batch.map(({ order }) => order.customerId),
      batch.map(({ order }) => order.paymentMethod),
      lines.map(({ orderId }) => orderId),
      lines.map(({ line }) => line),
      lines.map(({ productId }) => productId),
      lines.map(({ quantity }) => quantity),
      joinJson(
        batch.map(({ orderId, order }) => JSON.stringify({ orderId, customerId: order.customerId }))
      ),
      joinJson(events.map((event) => JSON.stringify(event)))
    ]
  )
  return events.map((body) => ({ type: 'OrderCreatedEvent', body }))
}

interface SagaRow {
  saga_id: string
  ctid: string
  state: string
  context: {
    orderId: string
    customerId: string
    total?: number
    currency?: string
    reason?: string
  }
  version: number
}

/** The saga by hand: which state an event leads to, and what is sent then. */
async function moveOrders(messages: Envelope[], sql: Sql): Promise<Reply[]> {
  const rows = await sql<SagaRow>(
    'lock',
    `
      select saga_id, ctid::text as ctid, state, context, version from saga where saga = 'order'
        and saga_id = any($1::uuid[]) order by saga_id for update`,
    [messages.map(({ body }) => body['orderId'])]
  )
  const sagas = new Map(rows.map((row) => [row.saga_id, row]))
  const history: {
    id: string
    sequence: number
    event: Envelope
    from: string
    to: string
    sent: string
  }[] = []
  const replies: Reply[] = []
  for (const event of messages) {
    const saga = sagas.get(event.body['orderId'] as string)!
    const from = saga.state
    const before = replies.length
    move(saga, event, replies)
    history.push({
      id: saga.saga_id,
      sequence: ++saga.version,
      event,
      from,
      to: saga.state,
      sent: JSON.stringify(replies.slice(before).map(({ type }) => type))
    })
  }
  const ended = rows.filter(({ state }) => !state.startsWith('Suspend'))
  void sql(
    'move',
    `with moved as (
      update saga set state = moved.state, context = moved.context, version = moved.version,
        updated_at = now(),
        next_timer_at = case when moved.state like 'Suspend%' then saga.next_timer_at end
      from unnest($1::tid[], $2::text[], ${jsonTexts(3)}::jsonb[], $4::integer[]) as moved (ctid,
        state, context, version) where saga.ctid = moved.ctid
    ), ended as (
      update orders set status = ended.status, failure_reason = ended.reason, total = ended.total,
        currency = ended.currency, updated_at = now()
      from unnest($5::uuid[], $6::text[], $7::text[], $8::bigint[], $9::text[]) as ended (id,
        status, reason, total, currency)
      where order_id = any($5::uuid[]) and order_id = id and orders.status = 'Suspend'
    )
    insert into saga_history (saga, saga_id, sequence, event, body, message_id, from_state,
      to_state, sent)
    select 'order', * from unnest($10::uuid[], $11::integer[], $12::text[],
      ${jsonTexts(13)}::jsonb[], $14::uuid[], $15::text[], $16::text[], ${jsonTexts(17)}::jsonb[])`,
    [
      rows.map(({ ctid }) => ctid),
      rows.map(({ state }) => state),
      joinJson(rows.map(({ context }) => JSON.stringify(context))),
      rows.map(({ version }) => version),
      ended.map(({ saga_id: id }) => id),
      ended.map(({ state }) => state.split('.')[0]),
      ended.map(({ context }) => context.reason ?? null),
      ended.map(({ context }) => context.total ?? null),
      ended.map(({ context }) => context.currency ?? null),
      history.map(({ id }) => id),
      history.map(({ sequence }) => sequence),
      history.map(({ event }) => event.type),
      joinJson(history.map(({ event }) => JSON.stringify(event.body))),
      history.map(({ event }) => event.id),
      history.map(({ from }) => from),
      history.map(({ to }) => to),
      joinJson(history.map(({ sent }) => sent))
    ]
  )
  return replies
}

function move(saga: SagaRow, { type, body }: Envelope, replies: Reply[]): void {
  const { orderId, customerId } = saga.context
  if (type === 'StockReservedEvent' && saga.state === 'Suspend.reservingStock') {
    saga.state = 'Suspend.takingPayment'
    saga.context = {
      ...saga.context,
      total: body['total'] as number,
      currency: body['currency'] as string
    }
  } else if (type === 'PaymentCompletedEvent' && saga.state.startsWith('Suspend')) {
    saga.state = 'Completed'
    saga.context = {
      ...saga.context,
      total: body['amount'] as number,
      currency: body['currency'] as string
    }
    replies.push({
      type: 'OrderCompletedEvent',
      body: { orderId, customerId, total: body['amount'], currency: body['currency'] }
    })
  } else if (type === 'StockNotReservedEvent' && saga.state.startsWith('Suspend')) {
    saga.state = 'Failed.settled'
    saga.context = { ...saga.context, reason: body['reason'] as string }
    replies.push({
      type: 'OrderFailedEvent',
      body: { orderId, customerId, reason: body['reason'] }
    })
  } else if (type === 'PaymentFailedEvent' && saga.state.startsWith('Suspend')) {
    saga.state = 'Failed.releasingStock'
    saga.context = { ...saga.context, reason: body['reason'] as string }
    replies.push(
      { type: 'OrderFailedEvent', body: { orderId, customerId, reason: body['reason'] } },
      { type: 'ReleaseStock', body: { orderId } }
    )
  } else if (type === 'StockReleasedEvent' && saga.state === 'Failed.releasingStock')
    saga.state = 'Failed.settled'
}
