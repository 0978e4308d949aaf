// The load: orders of two random lines out of 100 products, one in ten declined, the same sequence
// for everybody.
import pg from 'pg'
import { Pool } from 'undici'
import { productId, PRODUCTS } from './shop.ts'

/** Keep-alive connections of the closed loop. */
const CONNECTIONS = 64

export interface Placed {
  orderId: string
  body: string
}

/** An endless sequence of order bodies, the same for the same seed. */
export function* orderBodies(seed: number, hotProduct = false): Generator<string, never> {
  const random = generator(seed)
  for (;;) {
    const first = hotProduct ? 0 : Math.floor(random() * PRODUCTS)
    const second = (first + 1 + Math.floor(random() * (PRODUCTS - 1))) % PRODUCTS
    yield JSON.stringify({
      customerId: `c${Math.floor(random() * 1000)}`,
      items: [first, second].map((index) => ({
        productId: productId(index),
        quantity: 1 + Math.floor(random() * 3)
      })),
      paymentMethod: random() < 0.1 ? 'pm_card_chargeDeclined' : 'pm_card_visa'
    })
  }
}

export interface ClosedLoop {
  /** First POST to the last answer. */
  postedMs: number
  /** First POST to the last order that is no longer Suspend. */
  endedMs: number
}

/**
 * Places orders over 64 connections, each as soon as the last was answered, and waits until all
 * have ended.
 */
export async function closedLoop(
  urls: readonly string[],
  databaseUrl: string,
  orders: number,
  seed: number,
  hotProduct = false
): Promise<ClosedLoop> {
  const pools = urls.map(
    (url) => new Pool(url, { connections: CONNECTIONS / urls.length, pipelining: 1 })
  )
  const bodies = orderBodies(seed, hotProduct)
  const placed: string[] = []
  const began = performance.now()
  let left = orders
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async (_, connection) => {
      const pool = pools[connection % pools.length]!
      while (left-- > 0) placed.push(await place(pool, bodies.next().value))
    })
  )
  const postedMs = performance.now() - began
  await untilEnded(databaseUrl, placed)
  const endedMs = performance.now() - began
  await Promise.all(pools.map((pool) => pool.close()))
  return { postedMs, endedMs }
}

/**
 * POSTs at a steady rate whatever the answers do, and measures each order from its planned time
 * until its end is committed.
 */
export async function openLoop(
  url: string,
  databaseUrl: string,
  perSecond: number,
  orders: number,
  seed: number
): Promise<number[]> {
  const pool = new Pool(url, { connections: CONNECTIONS, pipelining: 1 })
  const bodies = orderBodies(seed)
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  // The notification comes with the commit that ends the order, for every contender alike.
  await client.query(`
    create or replace function order_service.bench_ended() returns trigger language plpgsql as $$ begin perform pg_notify('bench_ended', new.order_id::text); return null; end $$;
    create or replace trigger bench_ended after update of status on order_service.orders for each row when (new.status <> 'Suspend') execute function order_service.bench_ended();
    listen bench_ended`)
  const endedAt = new Map<string, number>()
  let allEnded!: () => void
  const done = new Promise<void>((resolve) => (allEnded = resolve))
  client.on('notification', ({ payload }) => {
    endedAt.set(payload!, performance.now())
    if (endedAt.size === orders) allEnded()
  })
  const began = performance.now()
  const posts: Promise<{ orderId: string; plannedAt: number }>[] = []
  for (let index = 0; index < orders; index++) {
    const plannedAt = began + (index * 1000) / perSecond
    const early = plannedAt - performance.now()
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early))
    posts.push(
      place(pool, bodies.next().value).then((orderId) => ({
        orderId,
        plannedAt: Math.max(plannedAt, began)
      }))
    )
  }
  const placed = await Promise.all(posts)
  await done
  await client.query('drop trigger bench_ended on order_service.orders')
  await Promise.all([client.end(), pool.close()])
  return placed.map(({ orderId, plannedAt }) => endedAt.get(orderId)! - plannedAt)
}

async function place(pool: Pool, body: string): Promise<string> {
  const response = await pool.request({
    method: 'POST',
    path: '/orders',
    headers: { 'content-type': 'application/json' },
    body
  })
  const answer = (await response.body.json()) as { orderId: string }
  if (response.statusCode !== 202)
    throw new Error(`POST /orders answered ${response.statusCode}: ${JSON.stringify(answer)}`)
  return answer.orderId
}

/** Looks at a few orders at a time, oldest first: a look at all would be a load of its own. */
async function untilEnded(databaseUrl: string, orderIds: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  let open = orderIds.slice(0, 200)
  for (let next = 200; open.length > 0;) {
    const { rows } = await client.query<{ order_id: string }>({
      name: 'open',
      text: `select order_id from order_service.orders where order_id = any($1::uuid[]) and status = 'Suspend'`,
      values: [open]
    })
    open = rows.map((row) => row.order_id)
    if (open.length > 0) await new Promise((resolve) => setTimeout(resolve, 10))
    const more = orderIds.slice(next, next + 200 - open.length)
    next += more.length
    open.push(...more)
  }
  await client.end()
}

/** mulberry32 */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
