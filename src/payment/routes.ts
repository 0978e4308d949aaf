import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { In } from 'typeorm'
import {
  auditOf,
  decodeCursor,
  DEFAULT_LIMIT,
  InvalidRequest,
  notFound,
  nullable,
  Page,
  PageQuery,
  PRINTABLE,
  toPage
} from 'sagabox/fastify'
import { UUID } from 'sagabox/engine'
import { typeorm } from 'sagabox/typeorm'
import type { Database, Outbox } from 'sagabox'
import { Money } from '../contracts/types.ts'
import { newestPayments } from './list.ts'
import { retryRefund, settlePayment } from './settle.ts'
import { PAYMENT_ENTITIES, PAYMENT_STATUSES, PaymentEntity, type Payment } from './entities.ts'

const PaymentView = Type.Object({
  orderId: Type.String(),
  status: Type.Enum([...PAYMENT_STATUSES]),
  amount: Type.Integer({ description: 'Minor units' }),
  currency: Type.String(),
  paymentMethod: Type.String(),
  failureReason: nullable(Type.String()),
  refundedAmount: Type.Integer(),
  gatewayReference: nullable(Type.String()),
  attempts: Type.Integer({ description: 'How often the gateway was asked' }),
  nextAttemptAt: nullable(Type.String()),
  lastError: Type.Union([Type.String(), Type.Null()], {
    description: 'What went wrong last; it stays when the payment has ended'
  }),
  settledBy: Type.Union([Type.String(), Type.Null()], {
    description:
      'Who ended it by hand: as the request says, else whoever asked, or the address of a stranger'
  }),
  settledAt: nullable(Type.String()),
  settledWhy: nullable(Type.String()),
  createdAt: Type.String(),
  updatedAt: Type.String()
})

const ById = Type.Object({ orderId: Type.String({ format: 'uuid' }) })

const Printable = { pattern: PRINTABLE }

const Settlement = Type.Object(
  {
    outcome: Type.Enum(['refunded', 'kept'], {
      description:
        'refunded: `amount` went back in another way; kept: `amount` stays, and the rest went back'
    }),
    amount: { ...Money, description: 'Minor units. 0: refunded, when none had been taken' },
    reason: Type.String({
      ...Printable,
      minLength: 1,
      maxLength: 200,
      description: 'Why; the order’s history shows it'
    }),
    by: Type.Optional(
      Type.String({ ...Printable, minLength: 1, maxLength: 100, description: 'Who says so' })
    )
  },
  {
    additionalProperties: false,
    examples: [{ outcome: 'refunded', amount: 8900, reason: 'Dispute lost' }]
  }
)

const tags = ['payment']

/** @param wake a payment waits for the gateway now */
export function paymentRoutes(
  database: Database,
  outbox: Outbox,
  wake: () => void
): FastifyPluginAsyncTypebox {
  const payments = async () =>
    (await typeorm(database, PAYMENT_ENTITIES)).getRepository(PaymentEntity)
  const find = async (orderId: string) => {
    const payment = await (await payments()).findOneBy({ orderId })
    if (!payment) throw notFound(`payment for order ${orderId}`)
    return toView(payment)
  }

  return async (app) => {
    app.get(
      '/payments/:orderId',
      {
        schema: {
          permission: 'payment:read',
          tags,
          summary: 'The payment of an order',
          params: ById,
          response: { 200: PaymentView }
        }
      },
      ({ params: { orderId } }) => find(orderId)
    )

    app.get(
      '/payments',
      {
        schema: {
          permission: 'payment:read',
          tags,
          summary: 'Payments, newest order first',
          description:
            '`RefundRefused` are those that wait for a person. With another `status`, a page may have fewer than `limit`, or none, and a `nextCursor`: what has ended is looked for among 100,000 at a time.',
          querystring: Type.Object(
            { status: Type.Optional(Type.Enum([...PAYMENT_STATUSES])), ...PageQuery },
            { additionalProperties: false }
          ),
          response: { 200: Page(PaymentView) }
        }
      },
      async ({ query: { status, cursor, limit = DEFAULT_LIMIT } }) => {
        const { ids, readOn } = await newestPayments(database, {
          status,
          before: decodeCursor(cursor, UUID),
          limit: limit + 1
        })
        const found = await (
          await payments()
        ).find({
          where: { orderId: In(ids) },
          order: { orderId: 'DESC' }
        })
        return toPage(found.map(toView), limit, (payment) => payment.orderId, readOn)
      }
    )

    app.post(
      '/payments/:orderId/settle',
      {
        schema: {
          permission: 'payment:settle',
          target: 'payment :orderId',
          tags,
          summary: 'End a payment that the gateway will not end',
          description:
            'One whose refund the gateway refuses for good (`RefundRefused`), or, of an order that has failed, one that it does not answer for. The order is told. The same once more is answered the same; 409 when it was settled otherwise or waits for no person.',
          params: ById,
          body: Settlement,
          response: { 200: PaymentView }
        }
      },
      async (asked) => {
        const { orderId } = asked.params
        const { by, ...settlement } = asked.body
        if (settlement.outcome === 'kept' && settlement.amount === 0)
          throw new InvalidRequest('body', [
            {
              field: 'amount',
              expected:
                'must be what is kept, 1 or more; when all went back the outcome is refunded'
            }
          ])
        const { actor, ip } = asked
        // Who is known by name cannot say that it was somebody else.
        const settledBy = actor.kind === 'anonymous' ? (by ?? ip) : actor.name
        await settlePayment(
          outbox,
          orderId.toLowerCase(),
          { ...settlement, by: settledBy },
          auditOf(asked, settlement)
        )
        return find(orderId)
      }
    )

    app.post(
      '/payments/:orderId/retry',
      {
        schema: {
          permission: 'payment:settle',
          target: 'payment :orderId',
          tags,
          summary: 'Ask the gateway once more for a refund that it refused',
          params: ById,
          response: { 202: PaymentView }
        }
      },
      async (request, reply) => {
        const { orderId } = request.params
        await retryRefund(outbox, orderId, auditOf(request, { status: 202 }))
        wake()
        return reply.code(202).send(await find(orderId))
      }
    )
  }
}

function toView({ nextAttemptAt, settledAt, createdAt, updatedAt, ...payment }: Payment) {
  return {
    ...payment,
    nextAttemptAt: nextAttemptAt?.toISOString() ?? null,
    settledAt: settledAt?.toISOString() ?? null,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString()
  }
}
