import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { MemoryTransport } from '../../src/messaging/memory-transport.ts'
import { sagaboxTopology, type ServiceName } from '../../src/service.ts'
import { System } from '../../src/system.ts'
import { advance } from '../../src/testing/advance.ts'
import { Api } from '../support/api.ts'
import { orderSagas, testLog } from '../support/system.ts'
import type { ModelCase, ModelEvent } from './case.ts'
import { Journal, ModelTransport } from './model-transport.ts'
import { Reference, type Rest } from './reference.ts'
import { till } from './till.ts'

const SERVICES: ServiceName[] = ['order', 'stock', 'payment']
/** Longer than any run: deadlines pass when the model says so. */
const DEADLINE_SECONDS = 24 * 3600
/** How often the tables are looked at, ms. */
const LOOK_MS = 15
/** For a system that never comes to rest, never a measure of speed, ms. */
const REST_LIMIT_MS = 60_000

// One statement, so one moment: what is committed in one service and not yet known to another is in an outbox.
const MOVING = `
  select
    (select count(*) from unnest($1::uuid[]) as id where not exists (select from order_service.saga where saga_id = id and state in ('Completed', 'Failed.settled')))::integer as open,
    (select count(*) from order_service.saga where saga_id = any($1::uuid[]) and next_timer_at <= now())::integer as due,
    (select count(*) from payment_service.payments where order_id = any($1::uuid[]) and next_attempt_at is not null)::integer as asking,
    (select count(*) from (select payload from order_service.outbox union all select payload from stock_service.outbox union all select payload from payment_service.outbox) as waiting
      where payload::json -> 'message' ->> 'orderId' = any($1::text[]))::integer as sending`

const REST = `
  select saga.saga_id as id, saga.state as saga, orders.status, reservations.status as reservation,
    payments.status as payment, payments.amount::float8 as amount, payments.refunded_amount::float8 as refunded
  from order_service.saga join order_service.orders on order_id = saga_id
    left join stock_service.reservations using (order_id) left join payment_service.payments using (order_id)
  where saga_id = any($1::uuid[])`

const LETTERS = `
  select endpoint, reason from (select * from order_service.dead_letter union all select * from stock_service.dead_letter union all select * from payment_service.dead_letter) as letters
  where exists (select from unnest($1::text[]) as id where strpos(convert_from(payload, 'UTF8'), id) > 0)`

/** The whole system in one process, which dies now and then, and as many runs of the model on it as one likes at the same time. */
export class World {
  readonly #databaseUrl: string
  readonly #journal = new Journal()
  readonly #look: pg.Pool
  readonly #rollBacks = new Map<ServiceName, number>()
  #system!: System
  #transport!: ModelTransport
  #api!: Api
  /** Requests under way: the system restarts between them. */
  #requests = 0
  #restarting: Promise<void> | undefined

  private constructor(databaseUrl: string) {
    this.#databaseUrl = databaseUrl
    this.#look = new pg.Pool({ connectionString: databaseUrl, max: 4 })
  }

  static async open(databaseUrl: string): Promise<World> {
    const world = new World(databaseUrl)
    await world.#start()
    return world
  }

  async close(): Promise<void> {
    await this.#system.stop()
    await this.#look.end()
  }

  /** Plays a case and holds what is left to the reference. Returns what is wrong. */
  async play(played: ModelCase): Promise<string[]> {
    const run = new Run(played)
    await this.#use(() => this.#api.putProduct(run.product, played.stock))
    for (const event of played.events) await this.#do(event, run)
    const ids = run.orderIds()
    this.#transport.calm(ids)
    const unrest = await this.#rest(run, 'the end')
    if (unrest) return [unrest]
    const faults = await this.#faults(run)
    this.#journal.forget(ids)
    return faults
  }

  async #do(event: ModelEvent, run: Run): Promise<void> {
    if (event.do === 'restart') return this.#restart()
    if (event.do === 'rollBack') return void this.#rollBacks.set(event.service, 1)
    if (event.do === 'rest') return void (await this.#rest(run, 'what is held'))
    const { order } = event
    if (event.do === 'place') {
      if (run.placed.has(order)) return
      const { product, quantity, method } = run.played.orders[order]!
      const items = [{ productId: product === 'known' ? run.product : `no-${run.product}`, quantity }]
      return void run.placed.set(order, await this.#use(() => this.#api.placeOrder({ items, paymentMethod: method })))
    }
    const orderId = run.placed.get(order)
    if (orderId === undefined) return
    if (event.do === 'hold') this.#transport.hold(orderId, event.route)
    else if (event.do === 'release') this.#transport.release(orderId, event.route)
    else if (event.do === 'loseAck') this.#transport.loseAck(orderId, event.route)
    else if (event.do === 'repeat') this.#repeat(orderId, event, run)
    else if (event.do === 'deadline') {
      run.reference.deadline(order)
      await this.#use(() => advance(orderSagas(this.#system), DEADLINE_SECONDS * 1000, [orderId]))
    } else {
      const path = event.do === 'cancel' ? `/orders/${orderId}/cancel` : `/sagas/${orderId}/retry`
      const ask = () => this.#use(() => this.#api.call('POST', path))
      const first = await ask()
      // Its transaction was rolled back: who asks asks again.
      const { status, body } = first.status >= 500 ? await ask() : first
      if (![200, 202, 409].includes(status)) throw new Error(`POST ${path} answered ${status}: ${JSON.stringify(body)}`)
      if (event.do === 'cancel') run.reference.cancelled(order, status === 202)
    }
  }

  #repeat(orderId: string, { nth, ids }: { nth: number; ids: 'same' | 'new' }, run: Run): void {
    const sent = this.#journal.of(orderId)
    const parcel = sent[nth % (sent.length || 1)]
    if (!parcel) return
    const messageId = ids === 'same' ? parcel.messageId : randomUUID()
    const payload = JSON.stringify({ ...(JSON.parse(parcel.payload.toString()) as object), messageId })
    run.repeats++
    void this.#transport.send({ messageId, destination: parcel.destination, required: parcel.required, payload }).then(() => run.repeats--)
  }

  /** Waits until the orders have ended and nothing of them moves, or all that moves is held. Returns what still moves. */
  async #rest(run: Run, until: 'the end' | 'what is held'): Promise<string | undefined> {
    const ids = run.orderIds()
    const limit = Date.now() + REST_LIMIT_MS
    let before = ''
    for (let same = 0; ; ) {
      await this.#restarting
      const { repeats } = run
      const { rows: [row] } = await this.#look.query<{ open: number; due: number; asking: number; sending: number }>(MOVING, [ids])
      const { open, due, asking, sending } = row!
      if (open + due + asking + sending + repeats + run.repeats === 0) return undefined
      const state = JSON.stringify({ open, due, asking, sending, repeats })
      same = state === before ? same + 1 : 0
      before = state
      // Held messages are in their senders' outboxes: nothing else is.
      if (until === 'what is held' && due + asking === 0 && same > 2 && this.#transport.heldOf(ids) > 0) return undefined
      if (Date.now() > limit) return `never rests: ${state}`
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
    }
  }

  async #faults(run: Run): Promise<string[]> {
    const ids = run.orderIds()
    const { rows } = await this.#look.query<Record<'id' | 'saga' | 'status' | 'reservation' | 'payment', string> & { amount: number; refunded: number }>(REST, [ids])
    const { rows: letters } = await this.#look.query<{ endpoint: string; reason: string }>(LETTERS, [ids])
    const faults = letters.map(({ endpoint, reason }) => `a dead letter of ${endpoint}: ${reason}`)
    const sold: number[] = []
    for (const [order, orderId] of run.placed) {
      const { saga, status, reservation, payment, amount, refunded } = rows.find(({ id }) => id === orderId)!
      const { consistent } = (await this.#use(() => this.#api.get(`/sagas/${orderId}/replay`))) as { consistent: boolean }
      const rest: Rest = { saga, status, reservation, payment: payment ? { status: payment, amount, refunded } : undefined, held: till.get(orderId) ?? 0, replays: consistent }
      faults.push(...run.reference.order(order, rest))
      if (status === 'Completed') sold.push(order)
    }
    const { onHand, reserved } = (await this.#use(() => this.#api.get(`/products/${run.product}`))) as { onHand: number; reserved: number }
    return [...faults, ...run.reference.stock(onHand, reserved, sold)]
  }

  async #use<R>(work: () => Promise<R>): Promise<R> {
    while (this.#restarting) await this.#restarting
    this.#requests++
    try {
      return await work()
    } finally {
      this.#requests--
    }
  }

  async #restart(): Promise<void> {
    this.#restarting ??= (async () => {
      while (this.#requests > 0) await new Promise((resolve) => setImmediate(resolve))
      this.#transport.die()
      await this.#system.stop()
      await this.#start()
      this.#restarting = undefined
    })()
    await this.#restarting
  }

  async #start(): Promise<void> {
    this.#transport = new ModelTransport(new MemoryTransport(sagaboxTopology()), this.#journal)
    this.#system = await System.start({
      services: SERVICES,
      databaseUrls: { order: this.#databaseUrl, stock: this.#databaseUrl, payment: this.#databaseUrl },
      transport: this.#transport,
      settings: { deadlineSeconds: DEADLINE_SECONDS, redeliverySeconds: [1, 1, 1], inboxDays: 7, paymentGateway: 'simulated' },
      host: '127.0.0.1',
      port: 0,
      log: testLog
    })
    await this.#system.started()
    this.#api = new Api(this.#system.url)
    for (const name of SERVICES) this.#rollsBack(name)
  }

  /** Lets transactions of a service fail when all their work is done. */
  #rollsBack(name: ServiceName): void {
    const { outbox } = this.#system.service(name)
    const transaction = outbox.transaction.bind(outbox)
    outbox.transaction = (work) =>
      transaction(async (tx) => {
        const result = await work(tx)
        if (!this.#rollBacks.delete(name)) return result
        throw Object.assign(new Error('The model rolls this transaction back'), { code: '40001' })
      })
  }
}

class Run {
  readonly played: ModelCase
  readonly reference: Reference
  readonly product = `p${randomUUID()}`
  readonly placed = new Map<number, string>()
  /** Messages sent once more and not handled yet. */
  repeats = 0

  constructor(played: ModelCase) {
    this.played = played
    this.reference = new Reference(played)
  }

  orderIds(): string[] {
    return [...this.placed.values()]
  }
}
