import { createHash } from 'node:crypto'
import { HttpProblem } from 'sagabox/fastify'
import {
  backoff,
  Batcher,
  isConflict,
  isUnavailable,
  newId,
  run,
  statement,
  write
} from 'sagabox/engine'
import type { BodyOf, Outbox, SagaHost, Tx } from 'sagabox'
import { OrderCreatedEvent } from '../contracts/order.ts'

/**
 * Most orders in one transaction. Coalescing concurrent requests brought 60 % more orders a second,
 * measured.
 */
const BATCH = 100
/**
 * A request that has waited for so long, ms, is not begun any more: its client may have given up.
 */
const PATIENCE_MS = 10_000
/**
 * Orders that wait for their transaction: ten of the largest batches, a second's work. Who comes
 * then is told to come again.
 */
const MOST_IN_HAND = 1000

const CLAIM_KEYS = statement(`
  insert into idempotency_key (key, request_hash, order_id)
  select * from unnest($1::text[], $2::text[], $3::uuid[]) as claim (key, request_hash, order_id)
    order by key
  on conflict do nothing returning key`)

const READ_KEYS = statement(
  `select key, request_hash, order_id from idempotency_key where key = any($1::text[])`
)

/** The database's time, from which the timers of the new sagas count. */
const NOW = statement('select now() as now')

// One statement for both tables.
const INSERT_ORDERS = statement(`
  with placed as (
    insert into orders (order_id, customer_id, payment_method, expected_total, owner)
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $9::text[])
  )
  insert into order_lines (order_id, line, product_id, quantity)
  select * from unnest($5::uuid[], $6::integer[], $7::text[], $8::integer[])`)

export type NewOrder = Omit<BodyOf<typeof OrderCreatedEvent>, 'orderId'>

export interface PlaceOrder {
  order: NewOrder
  /** To whom it belongs; also the key, so that two may use the same. */
  owner?: string
  idempotencyKey?: string
  /** W3C trace context of the request. */
  headers: Record<string, string>
}

export interface PlacedOrder {
  orderId: string
  /** The key was used before: this is the first answer again. */
  replayed: boolean
}

interface Waiting extends PlaceOrder {
  orderId: string
  hash: string
  since: number
  resolve(placed: PlacedOrder): void
  reject(error: unknown): void
}

/** Takes orders in: one transaction for all requests that arrived while the last one ran. */
export class OrderIntake {
  readonly #outbox: Outbox
  readonly #saga: SagaHost
  readonly #batcher: Batcher<Waiting>
  #inHand = 0

  constructor(outbox: Outbox, saga: SagaHost) {
    this.#outbox = outbox
    this.#saga = saga
    this.#batcher = new Batcher({
      limit: BATCH,
      work: (batch) => this.#work(batch),
      onError: (error, attempt) => {
        if (isConflict(error) && attempt < 5) return { retryAfterMs: backoff(attempt, 20, 200) }
        return isUnavailable(error) ? 'fail' : 'split'
      },
      failed: (waiting, error) => waiting.reject(error)
    })
  }

  /**
   * Records an order, its saga and its OrderCreatedEvent; resolves when they are committed.
   * @throws HttpProblem 422 when the idempotency key came with another order before, 503 when it
   * was not taken in time, or too many
   * wait: nothing is recorded then
   */
  async place(order: PlaceOrder): Promise<PlacedOrder> {
    if (this.#inHand >= MOST_IN_HAND) {
      throw new HttpProblem(503, `${MOST_IN_HAND} orders are waiting to be recorded; try again`)
    }
    this.#inHand++
    try {
      return await this.#wait(order)
    } finally {
      this.#inHand--
    }
  }

  #wait({ order, owner, idempotencyKey: given, headers }: PlaceOrder): Promise<PlacedOrder> {
    const orderId = newId()
    const idempotencyKey = given === undefined ? undefined : keyOf(given, owner)
    const hash = idempotencyKey === undefined ? '' : hashOf(order)
    return new Promise((resolve, reject) =>
      this.#batcher.push({
        order,
        owner,
        idempotencyKey,
        headers,
        orderId,
        hash,
        since: performance.now(),
        resolve,
        reject
      })
    )
  }

  async stop(): Promise<void> {
    for (const waiting of await this.#batcher.stop())
      waiting.reject(new HttpProblem(503, 'The service is stopping; try again'))
  }

  async #work(waiting: readonly Waiting[]): Promise<void> {
    const oldest = performance.now() - PATIENCE_MS
    for (const late of waiting.filter(({ since }) => since < oldest))
      late.reject(
        new HttpProblem(
          503,
          'The order was not taken: others were in the way for too long; try again'
        )
      )
    const batch = waiting.filter(({ since }) => since >= oldest)
    if (batch.length > 0) await this.#place(batch)
  }

  async #place(batch: readonly Waiting[]): Promise<void> {
    const earlier = await this.#outbox.transaction(async (tx) => {
      const [used, [row]] = await Promise.all([
        claimKeys(tx, batch),
        run<{ now: Date }>(tx, NOW, [])
      ])
      const fresh = batch.filter((waiting) => !used.has(waiting))
      if (fresh.length > 0) await this.#insert(tx, fresh, row!.now)
      return used
    })
    for (const waiting of batch) {
      const first = earlier.get(waiting)
      if (!first) waiting.resolve({ orderId: waiting.orderId, replayed: false })
      else if (first.hash === waiting.hash)
        waiting.resolve({ orderId: first.orderId, replayed: true })
      else
        waiting.reject(
          new HttpProblem(422, 'This Idempotency-Key was used for another order before', [
            {
              field: 'Idempotency-Key',
              expected: 'must be a new key, or come with the body it first came with'
            }
          ])
        )
    }
  }

  async #insert(tx: Tx, batch: readonly Waiting[], now: Date): Promise<void> {
    const orders = batch.map(({ orderId, order, headers }) =>
      OrderCreatedEvent({ orderId, ...order }, { headers })
    )
    const lines = orders.flatMap(({ body: { orderId, items } }) =>
      items.map((item, index) => ({ orderId, line: index + 1, ...item }))
    )
    void write(tx, INSERT_ORDERS, [
      orders.map(({ body }) => body.orderId),
      orders.map(({ body }) => body.customerId),
      orders.map(({ body }) => body.paymentMethod),
      orders.map(({ body }) => body.expectedTotal ?? null),
      lines.map(({ orderId }) => orderId),
      lines.map(({ line }) => line),
      lines.map(({ productId }) => productId),
      lines.map(({ quantity }) => quantity),
      batch.map(({ owner }) => owner ?? null)
    ])
    const sent = await this.#saga.start(tx, orders, now)
    tx.send(...orders, ...sent)
  }
}

interface FirstUse {
  hash: string
  orderId: string
}

/**
 * Claims the batch's idempotency keys. Returns the requests whose key was used before, by an
 * earlier batch or in this one.
 */
async function claimKeys(tx: Tx, batch: readonly Waiting[]): Promise<Map<Waiting, FirstUse>> {
  const claimants = new Map<string, Waiting>()
  for (const waiting of batch) {
    if (waiting.idempotencyKey !== undefined && !claimants.has(waiting.idempotencyKey))
      claimants.set(waiting.idempotencyKey, waiting)
  }
  const used = new Map<Waiting, FirstUse>()
  if (claimants.size === 0) return used
  const claimed = await run<{ key: string }>(tx, CLAIM_KEYS, [
    [...claimants.keys()],
    [...claimants.values()].map(({ hash }) => hash),
    [...claimants.values()].map(({ orderId }) => orderId)
  ])
  const firstUses = new Map<string, FirstUse>(claimed.map(({ key }) => [key, claimants.get(key)!]))
  const lost = [...claimants.keys()].filter((key) => !firstUses.has(key))
  if (lost.length > 0) {
    const rows = await run<{ key: string; request_hash: string; order_id: string }>(tx, READ_KEYS, [
      lost
    ])
    for (const row of rows)
      firstUses.set(row.key, { hash: row.request_hash, orderId: row.order_id })
  }
  for (const waiting of batch) {
    const first =
      waiting.idempotencyKey === undefined ? undefined : firstUses.get(waiting.idempotencyKey)
    if (first && first.orderId !== waiting.orderId) used.set(waiting, first)
  }
  return used
}

/** Keys of others are other keys; a header holds no such separator. */
function keyOf(key: string, owner: string | undefined): string {
  return owner === undefined ? key : `${owner}\u001f${key}`
}

/** Same order, same hash, in whatever order the client wrote the fields. */
function hashOf({ customerId, items, paymentMethod, expectedTotal }: NewOrder): string {
  const canonical = JSON.stringify([
    customerId,
    items.map(({ productId, quantity }) => [productId, quantity]),
    paymentMethod,
    expectedTotal ?? null
  ])
  return createHash('sha256').update(canonical).digest('base64')
}
