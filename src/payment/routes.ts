import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { DataSource } from 'typeorm'
import { nullable } from '../http/nullable.ts'
import { notFound } from '../http/problem.ts'
import { PAYMENT_STATUSES, PaymentEntity } from './tables.ts'

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
  lastError: nullable(Type.String()),
  createdAt: Type.String(),
  updatedAt: Type.String()
})

export function paymentRoutes(dataSource: DataSource): FastifyPluginAsyncTypebox {
  const payments = () => dataSource.getRepository(PaymentEntity)

  return async (app) => {
    app.get(
      '/payments/:orderId',
      { schema: { tags: ['payment'], summary: 'The payment of an order', params: Type.Object({ orderId: Type.String({ format: 'uuid' }) }), response: { 200: PaymentView } } },
      async ({ params: { orderId } }) => {
        const payment = await payments().findOneBy({ orderId })
        if (!payment) throw notFound(`payment for order ${orderId}`)
        return {
          ...payment,
          nextAttemptAt: payment.nextAttemptAt?.toISOString() ?? null,
          createdAt: payment.createdAt.toISOString(),
          updatedAt: payment.updatedAt.toISOString()
        }
      }
    )
  }
}
