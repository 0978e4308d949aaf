import { EntitySchema } from 'typeorm'
import { bigintAsNumber } from 'sagabox/engine'

export const PAYMENT_STATUSES = [
  'Pending',
  'Completed',
  'Failed',
  'Refunding',
  'Refunded',
  'Cancelled',
  'RefundRefused',
  'Kept'
] as const
export type PaymentStatus = (typeof PAYMENT_STATUSES)[number]

export interface Payment {
  orderId: string
  status: PaymentStatus
  /** Minor units. */
  amount: number
  currency: string
  paymentMethod: string
  failureReason: string | null
  refundedAmount: number
  gatewayReference: string | null
  attempts: number
  nextAttemptAt: Date | null
  lastError: string | null
  /** Who ended the payment by hand, when and why. */
  settledBy: string | null
  settledAt: Date | null
  settledWhy: string | null
  createdAt: Date
  updatedAt: Date
}

export const PaymentEntity = new EntitySchema<Payment>({
  name: 'Payment',
  tableName: 'payments',
  columns: {
    orderId: { name: 'order_id', type: 'uuid', primary: true },
    status: { type: 'text' },
    amount: { type: 'bigint', transformer: bigintAsNumber },
    currency: { type: 'text' },
    paymentMethod: { name: 'payment_method', type: 'text' },
    failureReason: { name: 'failure_reason', type: 'text', nullable: true },
    refundedAmount: { name: 'refunded_amount', type: 'bigint', transformer: bigintAsNumber },
    gatewayReference: { name: 'gateway_reference', type: 'text', nullable: true },
    attempts: { type: 'integer' },
    nextAttemptAt: { name: 'next_attempt_at', type: 'timestamptz', nullable: true },
    lastError: { name: 'last_error', type: 'text', nullable: true },
    settledBy: { name: 'settled_by', type: 'text', nullable: true },
    settledAt: { name: 'settled_at', type: 'timestamptz', nullable: true },
    settledWhy: { name: 'settled_why', type: 'text', nullable: true },
    createdAt: { name: 'created_at', type: 'timestamptz' },
    updatedAt: { name: 'updated_at', type: 'timestamptz' }
  }
})

export const PAYMENT_ENTITIES = [PaymentEntity]
