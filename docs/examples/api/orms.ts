// Examples of the reference: ORMs. Imports are left out there. DATABASE_URL names an empty database.
import assert from 'node:assert/strict'
import { pgTable, text } from 'drizzle-orm/pg-core'
import { defineService, startSagabox } from 'sagabox'
import { drizzle } from 'sagabox/drizzle'
import { kysely } from 'sagabox/kysely'
import { typeorm, type Entities } from 'sagabox/typeorm'
import { EntitySchema } from 'typeorm'

const app = await startSagabox({
  services: [
    defineService('desk', { migrations: ['create table guests (name text primary key)'] })
  ],
  databaseUrl: process.env['DATABASE_URL']!,
  signals: false
})
const { transaction, database } = app.service('desk')

// Example: typeorm, Entities
const Guest = new EntitySchema<{ name: string }>({
  name: 'Guest',
  tableName: 'guests',
  columns: { name: { type: 'text', primary: true } }
})
const entities: Entities = [Guest]
await transaction(async (tx) => {
  await (await typeorm(tx, entities)).getRepository(Guest).save({ name: 'Ada' })
})

// Example: kysely
await transaction(async (tx) => {
  const db = kysely<{ guests: { name: string } }>(tx)
  await db.insertInto('guests').values({ name: 'Grace' }).execute()
})

// Example: drizzle
const guests = pgTable('guests', { name: text().primaryKey() })
const found = await drizzle(database).select().from(guests).orderBy(guests.name)
assert.deepEqual(found, [{ name: 'Ada' }, { name: 'Grace' }])

// End of examples
await app.stop()
