import type { Database } from 'sagabox'

const SAMPLES = [
  ['keyboard', 'Mechanical keyboard', 8900, 100],
  ['mouse', 'Wireless mouse', 3900, 100],
  ['monitor', '27 inch monitor', 24900, 20],
  ['desk-lamp', 'Desk lamp', 4500, 3]
] as const

/** Puts a few products on the shelf of a stock service that has none. Returns how many. */
export async function seedProducts(stock: Database): Promise<number> {
  const { rowCount } = await stock.query(
    `insert into products (product_id, name, unit_price, currency, on_hand)
     select product_id, name, unit_price, 'EUR', on_hand
     from unnest($1::text[], $2::text[], $3::bigint[], $4::integer[]) as sample (product_id, name,
       unit_price, on_hand)
     where not exists (select from products)
     on conflict do nothing returning product_id`,
    [0, 1, 2, 3].map((column) => SAMPLES.map((sample) => sample[column]))
  )
  return rowCount ?? 0
}
