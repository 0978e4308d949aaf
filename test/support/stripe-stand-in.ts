import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { TYPESCRIPT } from './program.ts'

/**
 * How a charge goes; of a refund `lost response`, `500 before`, `500 after` and those that name it.
 */
export type Behaviour =
  | 'ok'
  | 'declined'
  | 'insufficient funds'
  | 'authentication required'
  /** Charges, and cuts the connection. */
  | 'lost response'
  /** Takes 5 s. */
  | 'slow'
  /** Answers 500, before or after it has charged; asked again under the key, the same 500. */
  | '500 before'
  | '500 after'
  /** Answers 503 twice before it begins. */
  | 'fails twice'
  | 'rate limited'
  /** Is decided by `settleProcessing`. */
  | 'processing'
  /** Of a refund: is decided by `settleRefunds`. */
  | 'refund pending'
  /** Of a refund: fails at once. */
  | 'refund failed'
  /** What Stripe answers. */
  | { status: number; error: { type: string; code?: string; param?: string; message: string } }

/** What the stand-in can be told. */
export interface StandInControl {
  /** Cuts every connection until it is over. */
  outage?: boolean
  /** Whether a search finds anything. */
  indexing?: boolean
  /**
   * How the next charges and refunds go, in this order; then payment methods' names decide again.
   */
  script?: Behaviour[]
  /** As after 24 hours. */
  forgetKeys?: boolean
  settleProcessing?: boolean
  settleRefunds?: 'succeeded' | 'failed'
  /** Somebody gives back so much of every charge in the dashboard, or all that is left. */
  refundByHand?: number
  /** The key is of another mode, or another account, than all that there is. */
  elsewhere?: 'mode' | 'account'
}

export interface ReceivedRequest {
  method: string
  path: string
  idempotencyKey: string | undefined
}

/** Money that moved. */
export interface LedgerEntry {
  kind: 'charge' | 'refund'
  orderId: string
  /** The PaymentIntent. */
  reference: string
  amount: number
  currency: string
  at: string
}

export interface Balance {
  charges: number
  refunds: number
  /** Minor units that are kept. */
  net: number
}

/**
 * A part of Stripe's API in a process of its own: it survives whatever dies beside it. Every charge
 * and refund is one line of a ledger file, written before anybody is told: the oracle of "charged
 * once".
 */
export class StripeStandIn {
  static readonly KEY = 'sk_test_standIn'
  readonly url: string
  readonly ledgerFile: string

  private constructor(port: number, ledgerFile: string) {
    this.url = `http://127.0.0.1:${port}`
    this.ledgerFile = ledgerFile
  }

  /** Stopped, and its ledger deleted, with the test. */
  static async start(t: { teardown(callback: () => void): unknown }): Promise<StripeStandIn> {
    const folder = await mkdtemp(join(tmpdir(), 'sagabox-stripe-'))
    const ledger = join(folder, 'ledger.ndjson')
    writeFileSync(ledger, '')
    const child = fork(
      fileURLToPath(new URL('stripe-stand-in-process.ts', import.meta.url)),
      [JSON.stringify({ ledger, port: 0, key: StripeStandIn.KEY })],
      { execArgv: [TYPESCRIPT] }
    )
    t.teardown(() => {
      child.kill('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    })
    const [port] = (await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) =>
        Promise.reject(new Error(`The Stripe stand-in ended with ${code} before it listened`))
      )
    ])) as [number]
    return new StripeStandIn(port, ledger)
  }

  /** What a program is started with to be its client. */
  get environment(): {
    PAYMENT_GATEWAY: string
    STRIPE_SECRET_KEY: string
    STRIPE_API_URL: string
  } {
    return {
      PAYMENT_GATEWAY: 'stripe',
      STRIPE_SECRET_KEY: StripeStandIn.KEY,
      STRIPE_API_URL: this.url
    }
  }

  async tell(control: StandInControl): Promise<void> {
    await this.#control(control)
  }

  /** Every request of Stripe's API so far, also those it cut. */
  async received(): Promise<ReceivedRequest[]> {
    return (await this.#control({})).received
  }

  readLedger(): LedgerEntry[] {
    return readLedger(this.ledgerFile)
  }

  async #control(control: StandInControl): Promise<{ received: ReceivedRequest[] }> {
    const response = await fetch(`${this.url}/stand-in`, {
      method: 'POST',
      body: JSON.stringify(control)
    })
    return (await response.json()) as { received: ReceivedRequest[] }
  }
}

export function readLedger(file: string): LedgerEntry[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as LedgerEntry)
}

/** What the ledger says of each order. */
export function balances(ledger: readonly LedgerEntry[]): Map<string, Balance> {
  const byOrder = new Map<string, Balance>()
  for (const { kind, orderId, amount } of ledger) {
    const balance = byOrder.get(orderId) ?? { charges: 0, refunds: 0, net: 0 }
    if (kind === 'charge') balance.charges++
    else balance.refunds++
    balance.net += kind === 'charge' ? amount : -amount
    byOrder.set(orderId, balance)
  }
  return byOrder
}

/**
 * Holds the ledger to what was promised: nobody charged twice or given back twice, a completed
 * order charged once for its total and not refunded, of a failed one nothing kept, and no charge
 * for an order that does not exist. Returns what is wrong.
 * @param settled what was to be paid for orders that were settled by hand: of these the gateway
 * gives nothing back
 */
export function ledgerFaults(
  ledger: readonly LedgerEntry[],
  orders: readonly { orderId: string; status: string; total: number | null }[],
  settled: ReadonlyMap<string, number> = new Map()
): string[] {
  const byOrder = balances(ledger)
  const known = new Set(orders.map(({ orderId }) => orderId))
  return [
    ...[...byOrder].flatMap(([orderId, { charges, refunds }]) => [
      ...(charges > 1 ? [`${orderId}: charged ${charges} times`] : []),
      ...(refunds > 1 ? [`${orderId}: refunded ${refunds} times`] : []),
      ...(known.has(orderId) ? [] : [`${orderId}: charged, and there is no such order`])
    ]),
    ...orders.flatMap(({ orderId, status, total }) => {
      const { refunds, net } = byOrder.get(orderId) ?? { refunds: 0, net: 0 }
      if (status === 'Completed')
        return net === total && refunds === 0
          ? []
          : [`${orderId}: Completed for ${total}, and ${net} were taken with ${refunds} refunds`]
      const toBePaid = settled.get(orderId)
      if (toBePaid !== undefined)
        return net === toBePaid && refunds === 0
          ? []
          : [
              `${orderId}: settled by hand, and ${net} of ${toBePaid} are kept with ${refunds} refunds`
            ]
      return net === 0 ? [] : [`${orderId}: ${status}, and ${net} are kept`]
    })
  ]
}
