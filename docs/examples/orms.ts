// Handlers that write by TypeORM, Kysely and Drizzle, and messages that are sent from transactions
// of a pool of one's own.
import { eq } from 'drizzle-orm'
import { pgTable, text, uuid } from 'drizzle-orm/pg-core'
import { CompiledQuery, type Transaction } from 'kysely'
import type { Pool } from 'pg'
import { contracts, handle, type Outbox, Type } from 'sagabox'
import { drizzle } from 'sagabox/drizzle'
import { kysely } from 'sagabox/kysely'
import { typeorm } from 'sagabox/typeorm'
import { EntitySchema } from 'typeorm'

const courier = contracts('courier', { correlateBy: 'parcelId' })
const Body = { parcelId: Type.String({ format: 'uuid' }), address: Type.String() }
export const BookCourier = courier.command('BookCourier', Body)
export const MoveCourier = courier.command('MoveCourier', Body)
export const CancelCourier = courier.command('CancelCourier', Body)
export const CourierBooked = courier.event('CourierBooked', Body)

interface Booking {
  parcel_id: string
  address: string
}

// TypeORM: the list of entities is kept in a constant.
const BookingEntity = new EntitySchema<Booking>({
  name: 'Booking',
  tableName: 'bookings',
  columns: { parcel_id: { type: 'uuid', primary: true }, address: { type: 'text' } }
})
const ENTITIES = [BookingEntity]

export const bookCourier = handle(BookCourier, async ({ parcelId, address }, { tx }) => {
  const bookings = (await typeorm(tx, ENTITIES)).getRepository(BookingEntity)
  await bookings.save({ parcel_id: parcelId, address })
  return CourierBooked({ parcelId, address })
})

// Kysely: its types are yours.
interface Tables {
  bookings: Booking
}

export const moveCourier = handle(MoveCourier, async ({ parcelId, address }, { tx }) => {
  const db = kysely<Tables>(tx)
  await db.updateTable('bookings').set({ address }).where('parcel_id', '=', parcelId).execute()
  return CourierBooked({ parcelId, address })
})

// Drizzle: its tables are yours.
const bookings = pgTable('bookings', { parcelId: uuid('parcel_id').primaryKey(), address: text() })

export const cancelCourier = handle(CancelCourier, async ({ parcelId }, { tx }) => {
  await drizzle(tx).delete(bookings).where(eq(bookings.parcelId, parcelId))
})

/** By a pool of your own: the message leaves when the transaction commits, and not before. */
export async function bookByOwnPool(
  pool: Pool,
  outbox: Outbox,
  booking: { parcelId: string; address: string }
): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query('insert into courier_service.bookings values ($1, $2)', [
      booking.parcelId,
      booking.address
    ])
    await outbox.add(client, [CourierBooked(booking)])
    await client.query('commit')
  } catch (error) {
    await client.query('rollback')
    throw error
  } finally {
    client.release()
  }
}

/** Kysely's transaction as `outbox.add` takes it: anything with a `query` of text and values. */
export function connectionOf<Db>(tx: Transaction<Db>) {
  return {
    query: (sql: string, values: string[]) => tx.executeQuery(CompiledQuery.raw(sql, values))
  }
}
