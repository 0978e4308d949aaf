import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { In } from 'typeorm'
import {
  type Audit,
  auditOf,
  decodeCursor,
  DEFAULT_LIMIT,
  IdempotencyHeaders,
  idempotentReplayed,
  linkTo,
  notFound,
  nullable,
  Page,
  PageQuery,
  toPage
} from 'sagabox/fastify'
import { UUID } from 'sagabox/engine'
import type { Database } from 'sagabox'
import { typeorm } from 'sagabox/typeorm'
import {
  Items,
  Money,
  Name,
  paymentMethodsOf,
  Quantity,
  type PaymentGatewayName
} from '../contracts/types.ts'
import { ownerAsked, ownerOf } from './owner.ts'
import { newestOrders } from './list.ts'
import type { OrderIntake } from './place-orders.ts'
import { ORDER_ENTITIES, ORDER_STATUSES, OrderEntity, type Order } from './entities.ts'

const newOrder = (gateway: PaymentGatewayName) =>
  Type.Object(
    {
      customerId: Name,
      items: Type.Array(
        Type.Object({ productId: Name, quantity: Quantity }, { additionalProperties: false }),
        { minItems: 1, maxItems: 100 }
      ),
      paymentMethod: paymentMethodsOf(gateway),
      expectedTotal: Type.Optional(Money)
    },
    {
      additionalProperties: false,
      examples: [
        {
          customerId: 'ada',
          items: [{ productId: 'keyboard', quantity: 1 }],
          paymentMethod: 'pm_card_visa'
        }
      ]
    }
  )

/** Bytes: the largest valid order has 10 KiB, and some clients write it with spaces. */
const ORDER_BODY_LIMIT = 64 * 1024

const Accepted = Type.Object({ orderId: Type.String(), status: Type.Literal('Suspend') })

const Cancelled = Type.Object({
  orderId: Type.String(),
  status: Type.Literal('Failed'),
  failureReason: Type.Literal('Cancelled')
})

const ById = Type.Object({ orderId: Type.String({ format: 'uuid' }) })

const OrderView = Type.Object({
  orderId: Type.String(),
  customerId: Type.String(),
  status: Type.Enum([...ORDER_STATUSES]),
  failureReason: nullable(Type.String()),
  items: Items,
  paymentMethod: Type.String(),
  expectedTotal: Type.Union([Money, Type.Null()], { description: 'Minor units' }),
  total: Type.Union([Money, Type.Null()], {
    description:
      'Minor units, as stock priced it; known once the order has ended, while the saga’s context has it earlier'
  }),
  currency: nullable(Type.String()),
  createdAt: Type.String(),
  updatedAt: Type.String()
})

const tags = ['order']

/**
 * @param gateway decides which payment methods an order may name
 * @param cancel see cancelOrder
 */
export function orderRoutes(
  database: Database,
  intake: OrderIntake,
  gateway: PaymentGatewayName,
  cancel: (orderId: string, audit: Audit) => Promise<void>
): FastifyPluginAsyncTypebox {
  const orders = async () => (await typeorm(database, ORDER_ENTITIES)).getRepository(OrderEntity)
  // Of somebody else's order it is not even said that there is one.
  const find = async (orderId: string, owner: string | undefined) => {
    const order = await (
      await orders()
    ).findOne({
      where: { orderId, ...(owner !== undefined && { owner }) },
      relations: { lines: true }
    })
    if (!order) throw notFound(`order ${orderId}`)
    return order
  }

  return async (app) => {
    app.post(
      '/orders',
      {
        bodyLimit: ORDER_BODY_LIMIT,
        schema: {
          permission: 'order:place',
          // It has an owner.
          audited: false,
          tags,
          summary: 'Place an order',
          description:
            'Recorded as `Suspend`; stock and payment decide how it ends. Prices are stock’s; `expectedTotal` makes the order fail with `PriceChanged` when they differ.',
          body: newOrder(gateway),
          headers: IdempotencyHeaders,
          response: {
            202: { ...Accepted, headers: { location: { type: 'string' }, ...idempotentReplayed } }
          }
        }
      },
      async (request, reply) => {
        const { body, headers } = request
        const idempotencyKey = headers['idempotency-key']
        const { orderId, replayed } = await intake.place({
          order: body,
          owner: ownerOf(request),
          idempotencyKey,
          headers: traceContext(headers)
        })
        if (replayed) reply.header('idempotent-replayed', 'true')
        return reply
          .code(202)
          .header('location', linkTo(app, `/orders/${orderId}`))
          .send({ orderId, status: 'Suspend' })
      }
    )

    app.get(
      '/orders/:orderId',
      {
        schema: {
          permission: 'order:read',
          tags,
          summary: 'One order',
          params: ById,
          response: { 200: OrderView }
        }
      },
      async (asked) => toView(await find(asked.params.orderId, ownerAsked(asked)))
    )

    app.post(
      '/orders/:orderId/cancel',
      {
        schema: {
          permission: 'order:cancel',
          target: 'order :orderId',
          tags,
          summary: 'Cancel an order',
          description:
            'While it is `Suspend`: it fails with `Cancelled`; stock goes back, and money that was taken, or yet will be. Once more, the answer is the same. 409 when the order has ended otherwise.',
          params: ById,
          response: { 202: Cancelled }
        }
      },
      async (request, reply) => {
        const { orderId } = request.params
        const owner = ownerAsked(request)
        if (owner !== undefined) await find(orderId, owner)
        await cancel(orderId, auditOf(request, { status: 202 }))
        return reply.code(202).send({ orderId, status: 'Failed', failureReason: 'Cancelled' })
      }
    )

    app.get(
      '/orders',
      {
        schema: {
          permission: 'order:read',
          tags,
          summary: 'Orders, newest first',
          description:
            'With a `status`, a page may have fewer than `limit`, or none, and a `nextCursor`: what has ended is looked for among 100,000 at a time.',
          querystring: Type.Object(
            { status: Type.Optional(Type.Enum([...ORDER_STATUSES])), ...PageQuery },
            { additionalProperties: false }
          ),
          response: { 200: Page(OrderView) }
        }
      },
      async (asked) => {
        const { status, cursor, limit = DEFAULT_LIMIT } = asked.query
        const { ids, readOn } = await newestOrders(database, {
          status,
          before: decodeCursor(cursor, UUID),
          limit: limit + 1,
          owner: ownerAsked(asked)
        })
        const found = await (
          await orders()
        ).find({
          where: { orderId: In(ids) },
          relations: { lines: true },
          relationLoadStrategy: 'query',
          order: { orderId: 'DESC' }
        })
        return toPage(found.map(toView), limit, (order) => order.orderId, readOn)
      }
    )
  }
}

/** W3C trace context follows the order from message to message. */
function traceContext(headers: Record<string, unknown>): Record<string, string> {
  const { traceparent } = headers
  return typeof traceparent === 'string' &&
    /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent)
    ? { traceparent }
    : {}
}

function toView({ lines, createdAt, updatedAt, owner: _owner, ...order }: Order) {
  return {
    ...order,
    items: lines
      .toSorted((a, b) => a.line - b.line)
      .map(({ productId, quantity }) => ({ productId, quantity })),
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString()
  }
}
