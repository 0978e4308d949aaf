import { randomUUID } from 'node:crypto'
import pg from 'pg'
import type { ModelCase, ModelEvent } from './case.ts'
import { ModelGateway } from './gateway.ts'
import { Life } from './life.ts'
import { Mishaps } from './mishaps.ts'
import { hasEnded, Reference, UNIT_PRICE, type Rest } from './reference.ts'
import { customerOf, Traffic } from './traffic.ts'

/** How often the tables are looked at, ms. */
const LOOK_MS = 5
/**
 * How long nothing may change while something is under way: for a broken system, never a measure of
 * speed, ms.
 */
const STANDSTILL_MS = 15_000

// What waits in an outbox and is not held; timers that are due; payments that wait for the gateway.
const MOVING = `
  select
    (select count(*) from (select message_id from order_service.outbox union all select message_id from stock_service.outbox union all select message_id from payment_service.outbox) as waiting
      where message_id <> all($1::uuid[]))::integer as sending,
    (select count(*) from order_service.saga where next_timer_at <= now())::integer as due,
    (select string_agg(order_id || ' ' || attempts || ' ' || next_attempt_at, ', ' order by order_id) from payment_service.payments where next_attempt_at is not null) as asking`

// The pause after an attempt that failed passes; a claim, which lasts 15 s from when it is made,
// does not.
const PASS_PAUSES = `
  update payment_service.payments set next_attempt_at = now()
  where next_attempt_at > now() and last_error is not null
    and next_attempt_at < updated_at + interval '15 seconds'`

// Nobody is left who could have claimed anything: time passes until the next start.
const PASS_CLAIMS = `update payment_service.payments set next_attempt_at = now() where next_attempt_at > now()`

const REST = `
  select saga.saga_id as id, saga.state as saga, orders.status, orders.failure_reason as reason,
    reservations.status as reservation,
    payments.status as payment, payments.amount::float8 as amount, payments.refunded_amount::float8 as refunded
  from order_service.saga join order_service.orders on order_id = saga_id
    left join stock_service.reservations using (order_id) left
      join payment_service.payments using (order_id)
  where saga_id = any($1::uuid[])`

const LETTERS = `
  select endpoint, reason from (select * from order_service.dead_letter union all select *
    from stock_service.dead_letter union all select * from payment_service.dead_letter) as letters`

/**
 * A database, a payment gateway and what the network does outlive the processes of the system,
 * which die now and then. One case at a time.
 */
export class World {
  readonly #traffic = new Traffic()
  readonly #mishaps = new Mishaps()
  readonly #gateway = new ModelGateway((key) => this.#traffic.knows(key))
  readonly #databaseUrl: string
  readonly #look: pg.Pool
  #life!: Life
  /** Nothing of the cases so far moves any more, or ever will. */
  #sound = true
  #reviving: Promise<void> | undefined

  private constructor(databaseUrl: string) {
    this.#databaseUrl = databaseUrl
    this.#look = new pg.Pool({ connectionString: databaseUrl, max: 2 })
    // The server may stop before the last connection has closed.
    this.#look.on('error', () => {})
  }

  static async open(databaseUrl: string): Promise<World> {
    const world = new World(databaseUrl)
    await world.#begin()
    return world
  }

  async close(): Promise<void> {
    const life = await this.#alive()
    life.transport.die()
    await life.bury()
    await this.#look.end()
  }

  /** Whether another case can be played here. */
  get sound(): boolean {
    return this.#sound
  }

  /** Plays a case and holds what is left to the reference. Returns what is wrong. */
  async play(played: ModelCase): Promise<string[]> {
    this.#sound = false
    const run: Run = {
      played,
      reference: new Reference(played),
      product: `p${randomUUID()}`,
      placed: new Map()
    }
    this.#traffic.clear()
    await this.#ask(({ api }) => api.putProduct(run.product, played.stock, UNIT_PRICE))
    for (const event of played.events) await this.#do(event, run)
    this.#traffic.calm()
    this.#mishaps.clear()
    this.#gateway.works = true
    await this.#ask(async ({ transport }) => transport.letGo())
    const unrest = await this.#rest()
    return unrest ? [unrest] : this.#faults(run)
  }

  async #do(event: ModelEvent, run: Run): Promise<void> {
    switch (event.do) {
      case 'place':
        return this.#place(event.order, run)
      case 'hold':
        return this.#traffic.hold(event.order, event.route)
      case 'release':
        this.#traffic.release(event.order, event.route)
        return this.#ask(async ({ transport }) => transport.letGo())
      case 'loseAck':
        return this.#traffic.loseAck(event.order, event.route)
      case 'repeat':
        return this.#repeat(event)
      case 'rollBack':
        return this.#mishaps.rollBack(event.service)
      case 'die':
        return this.#mishaps.die(event.service, event.commit)
      case 'restart':
        return (await this.#alive()).die()
      case 'gateway':
        this.#gateway.works = event.works
        return
      case 'rest':
        await this.#rest()
        return
      case 'deadline':
      case 'cancel':
      case 'retry':
        return this.#decide(event, run)
    }
  }

  async #place(order: number, { played, placed, product: known }: Run): Promise<void> {
    if (placed.has(order)) return
    const { product, quantity, method } = played.orders[order]!
    const items = [{ productId: product === 'known' ? known : `no-${known}`, quantity }]
    const body = { customerId: customerOf(order), items, paymentMethod: method }
    const headers = { 'idempotency-key': randomUUID() }
    const answer = await this.#ask(({ api }) => api.call('POST', '/orders', body, headers))
    if (answer.status !== 202)
      throw new Error(`POST /orders answered ${answer.status}: ${answer.text}`)
    placed.set(order, (answer.body as { orderId: string }).orderId)
  }

  async #decide(
    event: { do: 'deadline' | 'cancel' | 'retry'; order: number },
    { placed, reference }: Run
  ): Promise<void> {
    const orderId = placed.get(event.order)
    if (orderId === undefined) return
    if (event.do === 'deadline') {
      reference.deadline(event.order)
      return this.#ask((life) => life.passDeadline(orderId))
    }
    const path = event.do === 'cancel' ? `/orders/${orderId}/cancel` : `/sagas/${orderId}/retry`
    const { status, text } = await this.#ask(({ api }) => api.call('POST', path))
    if (![200, 202, 409].includes(status))
      throw new Error(`POST ${path} answered ${status}: ${text}`)
    if (event.do === 'cancel' && status === 202) reference.cancelled(event.order)
  }

  async #repeat({
    order,
    nth,
    ids
  }: {
    order: number
    nth: number
    ids: 'same' | 'new'
  }): Promise<void> {
    const sent = this.#traffic.sentFor(order)
    const message = sent[nth % (sent.length || 1)]
    if (!message) return
    const messageId = ids === 'same' ? message.messageId : randomUUID()
    const payload = JSON.stringify({
      ...(JSON.parse(message.payload.toString()) as object),
      messageId
    })
    await this.#ask(
      async ({ transport }) =>
        void transport.send({ ...message, messageId, payload }).catch(() => {})
    )
  }

  /**
   * Waits until nothing moves any more but what is held, or waits for a gateway that is away.
   * Returns what moves for ever.
   */
  async #rest(): Promise<string | undefined> {
    let before = ''
    let since = Date.now()
    for (;;) {
      const { transport } = await this.#alive()
      const sent = transport.published.length
      const { moving } = transport
      const { rows } = await this.#look.query<{
        sending: number
        due: number
        asking: string | null
      }>(MOVING, [transport.heldIds])
      const { sending, due, asking } = rows[0]!
      const waits = asking !== null && this.#gateway.works
      if (
        moving + sending + due === 0 &&
        !waits &&
        transport.moving === 0 &&
        transport.published.length === sent &&
        !this.#life.dead
      )
        return undefined
      const state = JSON.stringify({ moving, sending, due, asking })
      if (state !== before) since = Date.now()
      else if (Date.now() > since + STANDSTILL_MS) return `something moves for ever: ${state}`
      else if (moving + sending + due === 0) await this.#passPauses()
      before = state
      if (due > 0) await this.#ask((life) => life.fireTimers())
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
    }
  }

  async #passPauses(): Promise<void> {
    const { rowCount } = await this.#look.query(PASS_PAUSES)
    if (rowCount) await this.#ask((life) => life.askGateway())
  }

  async #faults({ placed, product, reference }: Run): Promise<string[]> {
    const { rows } = await this.#look.query<
      Record<'id' | 'saga' | 'status' | 'reason' | 'reservation' | 'payment', string> & {
        amount: number
        refunded: number
      }
    >(REST, [[...placed.values()]])
    const { rows: letters } = await this.#look.query<{ endpoint: string; reason: string }>(LETTERS)
    const faults = letters.map(({ endpoint, reason }) => `${endpoint} has a dead letter: ${reason}`)
    this.#sound = letters.length === 0 && rows.every(({ saga }) => hasEnded(saga))
    const sold: number[] = []
    for (const [order, orderId] of placed) {
      const row = rows.find(({ id }) => id === orderId)
      if (!row) {
        faults.push(`order ${order} was answered with 202, and there is no such order`)
        continue
      }
      const { saga, status, reason, reservation, payment, amount, refunded } = row
      const { consistent } = (await this.#ask(({ api }) =>
        api.get(`/sagas/${orderId}/replay`)
      )) as { consistent: boolean }
      const { history } = (await this.#ask(({ api }) => api.get(`/sagas/${orderId}`))) as {
        history: { event: string; messageId: string | null; note: string | null }[]
      }
      // What was deferred is recorded as it comes, and once more as it is taken.
      const taken = history.filter(({ note }) => note !== 'deferred')
      const appliedAgain = taken
        .filter(
          ({ messageId }, index) =>
            messageId !== null && taken.findIndex((step) => step.messageId === messageId) < index
        )
        .map(({ event }) => event)
      const rest: Rest = {
        saga,
        status,
        reason,
        reservation,
        payment: payment ? { status: payment, amount, refunded } : undefined,
        account: this.#gateway.accountOf(orderId),
        replays: consistent,
        appliedAgain
      }
      faults.push(...reference.order(order, rest))
      if (status === 'Completed') sold.push(order)
    }
    const { onHand, reserved } = (await this.#ask(({ api }) =>
      api.get(`/products/${product}`)
    )) as { onHand: number; reserved: number }
    return [...faults, ...reference.stock(onHand, reserved, sold)]
  }

  /** As a client does: an answer that never came, because the process died, is asked for again. */
  async #ask<R>(request: (life: Life) => Promise<R>): Promise<R> {
    for (;;) {
      const life = await this.#alive()
      try {
        const answer = await request(life)
        if (!life.dead) return answer
      } catch (error) {
        if (!life.dead) throw error
      }
    }
  }

  async #alive(): Promise<Life> {
    while (this.#reviving) await this.#reviving
    return this.#life
  }

  async #begin(): Promise<void> {
    this.#life = await Life.start(this.#databaseUrl, this.#traffic, this.#mishaps, () => {
      this.#reviving = this.#revive()
      this.#reviving.catch(() => {})
    })
  }

  async #revive(): Promise<void> {
    await this.#life.bury()
    await this.#look.query(PASS_CLAIMS)
    await this.#begin()
    this.#reviving = undefined
  }
}

interface Run {
  played: ModelCase
  reference: Reference
  product: string
  /** By their place in the case. */
  placed: Map<number, string>
}
