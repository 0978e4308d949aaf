import { EntitySchema } from 'typeorm'
import { bigintAsNumber } from 'sagabox/engine'

export const ORDER_STATUSES = ['Suspend', 'Completed', 'Failed'] as const
export type OrderStatus = (typeof ORDER_STATUSES)[number]

export interface Order {
  orderId: string
  customerId: string
  /** See ownerOf. */
  owner: string | null
  status: OrderStatus
  failureReason: string | null
  paymentMethod: string
  expectedTotal: number | null
  total: number | null
  currency: string | null
  createdAt: Date
  updatedAt: Date
  lines: OrderLine[]
}

export interface OrderLine {
  orderId: string
  line: number
  productId: string
  quantity: number
}

export const OrderEntity = new EntitySchema<Order>({
  name: 'Order',
  tableName: 'orders',
  columns: {
    orderId: { name: 'order_id', type: 'uuid', primary: true },
    customerId: { name: 'customer_id', type: 'text' },
    owner: { type: 'text', nullable: true },
    status: { type: 'text' },
    failureReason: { name: 'failure_reason', type: 'text', nullable: true },
    paymentMethod: { name: 'payment_method', type: 'text' },
    expectedTotal: {
      name: 'expected_total',
      type: 'bigint',
      nullable: true,
      transformer: bigintAsNumber
    },
    total: { type: 'bigint', nullable: true, transformer: bigintAsNumber },
    currency: { type: 'text', nullable: true },
    createdAt: { name: 'created_at', type: 'timestamptz' },
    updatedAt: { name: 'updated_at', type: 'timestamptz' }
  },
  relations: { lines: { type: 'one-to-many', target: 'OrderLine', inverseSide: 'order' } }
})

export const OrderLineEntity = new EntitySchema<OrderLine & { order: Order }>({
  name: 'OrderLine',
  tableName: 'order_lines',
  columns: {
    orderId: { name: 'order_id', type: 'uuid', primary: true },
    line: { type: 'integer', primary: true },
    productId: { name: 'product_id', type: 'text' },
    quantity: { type: 'integer' }
  },
  relations: {
    order: {
      type: 'many-to-one',
      target: 'Order',
      joinColumn: { name: 'order_id' },
      inverseSide: 'lines'
    }
  }
})

export const ORDER_ENTITIES = [OrderEntity, OrderLineEntity]
