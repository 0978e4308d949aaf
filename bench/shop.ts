// The shop that every contender works on: the product's own domain tables, so that one set of
// checks fits all.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { migrationsOf } from '../test/support/migrations.ts'

export const PRODUCTS = 100
/** Units on hand of each product before the load: more than any run sells. */
export const ON_HAND = 1_000_000_000

export function productId(index: number): string {
  return `p${String(index).padStart(3, '0')}`
}

/** Puts the products on the shelf. */
export async function stockShelves(databaseUrl: string): Promise<void> {
  await query(
    databaseUrl,
    `insert into stock_service.products (product_id, name, unit_price, currency, on_hand)
    select 'p' || lpad(i::text, 3, '0'), 'Product ' || i, 1000 + i, 'EUR', ${ON_HAND}
      from generate_series(0, ${PRODUCTS - 1}) as i`
  )
}

/**
 * Makes the schemas order_service, stock_service and payment_service with the product's domain
 * tables; orders and sagas have migrations in common.
 * @param more migration folders that every schema gets beside its own, such as `messaging` for
 * outbox and inbox
 */
export async function createShop(databaseUrl: string, more: readonly string[] = []): Promise<void> {
  for (const [service, extra] of [
    ['order', [...more, 'saga']],
    ['stock', more],
    ['payment', more]
  ] as const) {
    const sql = [...extra, service].flatMap((folder) => {
      const path = migrationsOf(folder)
      // Everything goes in one transaction here, and the tables are empty.
      return readdirSync(path)
        .toSorted()
        .map((file) => readFileSync(join(path, file), 'utf8').replaceAll(/\bconcurrently /g, ''))
    })
    await query(
      databaseUrl,
      [`create schema ${service}_service`, `set search_path = ${service}_service`, ...sql].join(
        ';\n'
      )
    )
  }
}

async function query(databaseUrl: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
