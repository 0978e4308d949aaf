import { Cashier } from '../../src/payment/cashier.ts'
import { TimerLoop } from '../../packages/sagabox/src/saga/run/timers.ts'
import { shop, shopTopology, SERVICE_NAMES, type ServiceName } from '../../src/shop.ts'
import { System } from '../../packages/sagabox/src/service/system.ts'
import { advance } from '../../packages/sagabox/src/testing/advance.ts'
import { Api } from '../support/api.ts'
import { orderSagas, testLog } from '../support/system.ts'
import type { Mishaps } from './mishaps.ts'
import type { Traffic } from './traffic.ts'
import { ModelTransport } from './transport.ts'

/** Longer than any run: deadlines pass when the model says so. */
const DEADLINE_SECONDS = 24 * 3600

/** The whole system in one process, from its start to its death. */
export class Life {
  readonly api: Api
  readonly transport: ModelTransport
  readonly #system: System
  readonly #mishaps: Mishaps
  readonly #died: () => void
  #dead = false

  private constructor(
    system: System,
    transport: ModelTransport,
    mishaps: Mishaps,
    died: () => void
  ) {
    this.#system = system
    this.transport = transport
    this.#mishaps = mishaps
    this.#died = died
    this.api = new Api(system.url)
    for (const name of SERVICE_NAMES) this.#meetMishaps(name)
  }

  /** @param died called when it dies */
  static async start(
    databaseUrl: string,
    traffic: Traffic,
    mishaps: Mishaps,
    died: () => void
  ): Promise<Life> {
    const transport = new ModelTransport(shopTopology(), traffic)
    const system = await System.start({
      services: Object.values(
        shop({ deadlineSeconds: DEADLINE_SECONDS, paymentGateway: 'simulated' })
      ),
      databaseUrls: { order: databaseUrl, stock: databaseUrl, payment: databaseUrl },
      transport,
      settings: { redeliverySeconds: [1, 1, 1], inboxDays: 7 },
      host: '127.0.0.1',
      port: 0,
      log: testLog
    })
    await system.started()
    return new Life(system, transport, mishaps, died)
  }

  get dead(): boolean {
    return this.#dead
  }

  /** From now on it commits nothing, sends nothing and acknowledges nothing. */
  die(): void {
    if (this.#dead) return
    this.#dead = true
    this.transport.die()
    this.#died()
  }

  /** Frees what a dead process would no longer have. */
  async bury(): Promise<void> {
    await this.#system.stop()
  }

  /** The order's deadline passes, and so does every pause of its saga. */
  async passDeadline(orderId: string): Promise<void> {
    await advance(orderSagas(this.#system), DEADLINE_SECONDS * 1000, [orderId])
    await this.fireTimers()
  }

  /**
   * Fires the timers that are due; the loop itself looks once a second, and again after what fails.
   */
  async fireTimers(): Promise<void> {
    for (const worker of this.#system.service('order').workers)
      if (worker instanceof TimerLoop) await worker.runOnce().catch(() => {})
  }

  /**
   * Asks the gateway for what is due; the loop itself looks once a second, and again after what
   * fails.
   */
  async askGateway(): Promise<void> {
    for (const worker of this.#system.service('payment').workers)
      if (worker instanceof Cashier) await worker.runOnce().catch(() => {})
  }

  #meetMishaps(name: ServiceName): void {
    const { outbox } = this.#system.service(name)
    const transaction = outbox.transaction.bind(outbox)
    outbox.transaction = async (work) => {
      const result = await transaction(async (tx) => {
        const made = await work(tx)
        if (this.#mishaps.dies(name, 'before')) this.die()
        this.#live()
        if (this.#mishaps.rollsBack(name))
          throw Object.assign(new Error('The model rolls this transaction back'), { code: '40001' })
        return made
      })
      if (this.#mishaps.dies(name, 'after')) this.die()
      this.#live()
      return result
    }
  }

  #live(): void {
    if (this.#dead) throw new Error('The model lets this process die')
  }
}
