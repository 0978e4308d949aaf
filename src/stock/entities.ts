import { EntitySchema } from 'typeorm'
import { bigintAsNumber } from 'sagabox/engine'

export interface Product {
  productId: string
  name: string
  /** Minor units. */
  unitPrice: number
  currency: string
  /** Units that can still be reserved. */
  onHand: number
  /** Units held for orders. */
  reserved: number
  /** Grows with every change of any of these. */
  version: number
}

export type ReservationStatus = 'Reserved' | 'Refused' | 'Released'

export interface Reservation {
  orderId: string
  status: ReservationStatus
  reason: string | null
  /** The product that a refusal is about. */
  productId: string | null
  total: number | null
  currency: string | null
  createdAt: Date
  updatedAt: Date
  lines: ReservationLine[]
}

export interface ReservationLine {
  orderId: string
  productId: string
  quantity: number
  unitPrice: number
}

export const ProductEntity = new EntitySchema<Product>({
  name: 'Product',
  tableName: 'products',
  columns: {
    productId: { name: 'product_id', type: 'text', primary: true },
    name: { type: 'text' },
    unitPrice: { name: 'unit_price', type: 'bigint', transformer: bigintAsNumber },
    currency: { type: 'text' },
    onHand: { name: 'on_hand', type: 'bigint', transformer: bigintAsNumber },
    reserved: { type: 'bigint', transformer: bigintAsNumber },
    version: { type: 'bigint', transformer: bigintAsNumber }
  }
})

export const ReservationEntity = new EntitySchema<Reservation>({
  name: 'Reservation',
  tableName: 'reservations',
  columns: {
    orderId: { name: 'order_id', type: 'uuid', primary: true },
    status: { type: 'text' },
    reason: { type: 'text', nullable: true },
    productId: { name: 'product_id', type: 'text', nullable: true },
    total: { type: 'bigint', nullable: true, transformer: bigintAsNumber },
    currency: { type: 'text', nullable: true },
    createdAt: { name: 'created_at', type: 'timestamptz' },
    updatedAt: { name: 'updated_at', type: 'timestamptz' }
  },
  relations: {
    lines: { type: 'one-to-many', target: 'ReservationLine', inverseSide: 'reservation' }
  }
})

export const ReservationLineEntity = new EntitySchema<
  ReservationLine & { reservation: Reservation }
>({
  name: 'ReservationLine',
  tableName: 'reservation_lines',
  columns: {
    orderId: { name: 'order_id', type: 'uuid', primary: true },
    productId: { name: 'product_id', type: 'text', primary: true },
    quantity: { type: 'integer' },
    unitPrice: { name: 'unit_price', type: 'bigint', transformer: bigintAsNumber }
  },
  relations: {
    reservation: {
      type: 'many-to-one',
      target: 'Reservation',
      joinColumn: { name: 'order_id' },
      inverseSide: 'lines'
    }
  }
})

export const STOCK_ENTITIES = [ProductEntity, ReservationEntity, ReservationLineEntity]
