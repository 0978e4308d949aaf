import pg from 'pg'
import { Program, type Scope } from '../support/program.ts'
import { postgresForTests } from '../support/postgres.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { until } from '../support/until.ts'
import type { OrderRequest } from '../support/api.ts'
import { DotnetProgram } from './dotnet.ts'
import { Wire } from './wire.ts'

export type ServiceName = 'order' | 'stock' | 'payment'
export type Side = 'dotnet' | 'sagabox'
export type Sides = Record<ServiceName, Side>

export interface MixedOptions {
  sides: Sides
  /** Each is started when the one before is ready; .NET's first unless given. */
  startOrder?: readonly ServiceName[]
  /** What .NET's services are told besides. */
  dotnetEnv?: Record<string, string>
}

export interface OrderView {
  status: string
  reason: string | null
  /** It has ended, and nothing is left to undo. */
  settled: boolean
}

interface Running {
  side: Side
  url: string
  lastWords: string
  kill(): Promise<void>
  stop(): Promise<unknown>
}

/**
 * Order, stock and payment in a process each, some by .NET and some by Sagabox, on a virtual host
 * and a database of their own. Both kinds of a service have the same tables: whoever moves a
 * service moves its data with it.
 */
export class MixedShop {
  readonly sides: Sides
  wire!: Wire
  readonly vhost: string
  readonly #scope: Scope
  readonly #databaseUrl: string
  readonly #database: pg.Pool
  readonly dotnetEnv: Record<string, string>
  readonly #running = new Map<ServiceName, Running>()

  private constructor(
    scope: Scope,
    vhost: string,
    databaseUrl: string,
    { sides, dotnetEnv = {} }: MixedOptions
  ) {
    this.#scope = scope
    this.vhost = vhost
    this.#databaseUrl = databaseUrl
    this.#database = new pg.Pool({ connectionString: databaseUrl, max: 2 })
    this.dotnetEnv = dotnetEnv
    this.sides = { ...sides }
  }

  static async open(scope: Scope, options: MixedOptions): Promise<MixedShop> {
    const broker = await rabbitmqForTests()
    const vhost = await broker.createVhost()
    scope.teardown(() => broker.deleteVhost(vhost))
    const databaseUrl = await (await postgresForTests()).createShop()
    const shop = new MixedShop(scope, vhost, databaseUrl, options)
    scope.teardown(() => shop.#database.end())
    const names = (['stock', 'payment', 'order'] as const).toSorted((a, b) =>
      options.sides[a].localeCompare(options.sides[b])
    )
    for (const name of options.startOrder ?? names) await shop.start(name)
    shop.wire = await Wire.open(scope, vhost)
    return shop
  }

  async start(
    name: ServiceName,
    env: Record<string, string> = {},
    side = this.sides[name]
  ): Promise<void> {
    this.sides[name] = side
    const common = {
      RABBITMQ_URL: this.vhost,
      DATABASE_URL: this.#databaseUrl,
      ORDER_DEADLINE_SECONDS: '600',
      ...env
    }
    const running =
      side === 'dotnet'
        ? await DotnetProgram.start(this.#scope, name, { ...common, ...this.dotnetEnv })
        : await this.#startSagabox(name, common)
    this.#running.set(name, running)
  }

  /** Starts the other kind of a service beside the one that runs, then stops that one. */
  async replace(name: ServiceName, side: Side): Promise<void> {
    const before = this.#of(name)
    await this.start(name, {}, side)
    await before.stop()
  }

  async stop(name: ServiceName): Promise<void> {
    await this.#of(name).stop()
    this.#running.delete(name)
  }

  async kill(name: ServiceName): Promise<void> {
    await this.#of(name).kill()
    this.#running.delete(name)
  }

  urlOf(name: ServiceName): string {
    return this.#of(name).url
  }

  async place(
    {
      customerId = 'ada',
      items = [{ productId: 'keyboard', quantity: 1 }],
      paymentMethod = 'pm_card_visa',
      ...rest
    }: OrderRequest = {},
    headers: Record<string, string> = {}
  ): Promise<string> {
    const response = await fetch(`${this.urlOf('order')}/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ customerId, items, paymentMethod, ...rest })
    })
    const text = await response.text()
    if (response.status !== 202) throw new Error(`POST /orders: ${response.status} ${text}`)
    return (JSON.parse(text) as { orderId: string }).orderId
  }

  async order(orderId: string): Promise<OrderView | undefined> {
    const get = async (path: string) => {
      const response = await fetch(`${this.urlOf('order')}/${path}/${orderId}`)
      return response.status === 200
        ? ((await response.json()) as Record<string, string>)
        : undefined
    }
    // The saga first: by the time it has ended, the order has.
    const saga = this.sides.order === 'sagabox' ? await get('sagas') : undefined
    const order = await get('orders')
    if (!order) return undefined
    const reason = order['failureReason'] ?? null
    const state = saga?.['state'] ?? order['currentState']!
    const settled = ['Completed', 'Failed', 'Failed.settled'].includes(state)
    return { status: order['status'] ?? statusOf(state), reason, settled }
  }

  /** Waits until the order has ended and nothing is left to undo. */
  settled(orderId: string): Promise<OrderView> {
    let last: OrderView | undefined
    return this.explained(
      () => orderId,
      until(
        `order ${orderId} has settled`,
        async () => {
          this.wire.throwFaultOf(orderId)
          last = await this.order(orderId)
          return last?.settled && last
        },
        { progress: () => JSON.stringify(last) }
      )
    )
  }

  /** Adds to an error what is known of an order. */
  async explained<T>(orderId: () => string, waiting: Promise<T>): Promise<T> {
    try {
      return await waiting
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${await this.evidence(orderId())}`, {
        cause: error
      })
    }
  }

  /** What the processes said last. */
  get lastWords(): string {
    return [...this.#running]
      .map(([name, { side, lastWords }]) => `--- ${name} by ${side}\n${lastWords.slice(-3000)}`)
      .join('\n')
  }

  async query(sql: string, values: unknown[] = []): Promise<Record<string, string | null>[]> {
    return (await this.#database.query(sql, values)).rows
  }

  async putProduct(productId: string, onHand: number, unitPrice = 1000): Promise<void> {
    await this.query(
      `insert into stock_service.products (product_id, name, unit_price, currency, on_hand)
       values ($1, $1, $2, 'EUR', $3)`,
      [productId, unitPrice, onHand]
    )
  }

  /** `7+3`: units on the shelf, and held for orders. */
  async shelf(productId: string): Promise<string> {
    const [row] = await this.query(
      'select on_hand, reserved from stock_service.products where product_id = $1',
      [productId]
    )
    return row ? `${row['on_hand']}+${row['reserved']}` : 'none'
  }

  async reservation(orderId: string): Promise<string | undefined> {
    const [row] = await this.query(
      'select status from stock_service.reservations where order_id = $1',
      [orderId]
    )
    return row?.['status'] ?? undefined
  }

  async payment(orderId: string): Promise<string | undefined> {
    const [row] = await this.query(
      'select status from payment_service.payments where order_id = $1',
      [orderId]
    )
    return row?.['status'] ?? undefined
  }

  /** Dead letters of a service: Sagabox moves them into its table, .NET leaves them in queues. */
  async letters(name: ServiceName): Promise<number> {
    if (this.sides[name] === 'sagabox') {
      const [row] = await this.query(`select count(*) from ${name}_service.dead_letter`)
      return Number(row!['count'])
    }
    const queues = await (await rabbitmqForTests()).queues(this.vhost)
    return queues
      .filter((queue) => queue.name === `${name}_error` || queue.name === `${name}_skipped`)
      .reduce((sum, { ready }) => sum + ready, 0)
  }

  /** What is known of an order that does not come to its end. */
  async evidence(orderId: string): Promise<string> {
    const letters: string[] = []
    const outboxes: string[] = []
    for (const name of ['order', 'stock', 'payment']) {
      for (const row of await this.query(`select count(*) from ${name}_service.outbox`))
        outboxes.push(`${name} ${row['count']}`)
      for (const row of await this.query(
        `select endpoint, exception, reason from ${name}_service.dead_letter
         where convert_from(payload, 'UTF8') like $1`,
        [`%${orderId}%`]
      ))
        letters.push(`${row['endpoint']}: ${row['exception']}: ${row['reason']}`)
    }
    const queues = await (await rabbitmqForTests()).queues(this.vhost)
    return [
      `on the wire: ${this.wire
        .all(orderId)
        .map(({ type }) => type)
        .join(', ')}`,
      `reservation ${await this.reservation(orderId)}, payment ${await this.payment(orderId)}`,
      `outboxes: ${outboxes.join(', ')}`,
      `letters: ${letters.join('; ') || 'none'}`,
      `queues: ${
        queues
          .filter(({ messages }) => messages > 0)
          .map(({ name, messages }) => `${name} ${messages}`)
          .join(', ') || 'empty'
      }`,
      this.lastWords
    ].join('\n')
  }

  #of(name: ServiceName): Running {
    const running = this.#running.get(name)
    if (!running) throw new Error(`${name} does not run`)
    return running
  }

  async #startSagabox(name: ServiceName, env: Record<string, string>): Promise<Running> {
    const program = await Program.start(this.#scope, env, name)
    await program.ready()
    return {
      side: 'sagabox',
      url: program.url,
      get lastWords() {
        return program.lastWords
      },
      kill: () => program.kill(),
      stop: () => program.stop('SIGTERM')
    }
  }
}

/** What Sagabox calls the status of an order whose state machine is .NET's. */
function statusOf(state: string): string {
  if (['ReleasingStock', 'Refunding'].includes(state)) return 'Failed'
  return ['Completed', 'Failed'].includes(state) ? state : 'Suspend'
}
