import type { ModelCase, ModelOrder } from './case.ts'
import type { Account } from './gateway.ts'

/** Of the product, in minor units. */
export const UNIT_PRICE = 1000

/** How an order may end: completed, or failed for a reason. */
type End =
  | 'Completed'
  | 'UnknownProduct'
  | 'OutOfStock'
  | 'CardDeclined'
  | 'DeadlineExceeded'
  | 'Cancelled'

/** What was seen of an order after everything had come to rest. */
export interface Rest {
  saga: string
  status: string
  /** Why it failed. */
  reason: string | null
  reservation: string | null
  payment: { status: string; amount: number; refunded: number } | undefined
  account: Account
  replays: boolean
  /** Messages that moved the saga more than once. */
  appliedAgain: readonly string[]
}

/**
 * What anybody would expect of a shop, without knowing how it is built: for each order, the ends
 * that are allowed.
 */
export class Reference {
  readonly #case: ModelCase
  readonly #ends: Set<End>[]

  constructor(played: ModelCase) {
    this.#case = played
    const placed = new Set(
      played.events.flatMap((event) => (event.do === 'place' ? [event.order] : []))
    )
    const wanted = played.orders
      .filter(({ product }, index) => product === 'known' && placed.has(index))
      .reduce((sum, { quantity }) => sum + quantity, 0)
    this.#ends = played.orders.map((order) => new Set(endsOf(order, played.stock, wanted)))
  }

  /** The deadline passes: whatever is first decides. */
  deadline(order: number): void {
    if (!this.#ends[order]!.has('Cancelled')) this.#ends[order]!.add('DeadlineExceeded')
  }

  /** The customer was told that the order is cancelled. */
  cancelled(order: number): void {
    this.#ends[order] = new Set(['Cancelled'])
  }

  /** What is wrong with an order that was placed. */
  order(
    index: number,
    { saga, status, reason, reservation, payment, account, replays, appliedAgain }: Rest
  ): string[] {
    const allowed = this.#ends[index]!
    const end = status === 'Completed' ? status : reason
    const price = this.#case.orders[index]!.quantity * UNIT_PRICE
    const money = `the payment is ${JSON.stringify(payment)}, and of the gateway ${JSON.stringify(account)}`
    const completed = status === 'Completed'
    const rules: [boolean, string][] = [
      [hasEnded(saga), `ends; nothing moves any more, and it is ${saga}`],
      [allowed.has(end as End), `ends as one of ${[...allowed].join(', ')}, and ended as ${end}`],
      [
        saga.split('.')[0] === status,
        `is the same everywhere, and is ${status} with a saga that is ${saga}`
      ],
      [
        completed ? reservation === 'Reserved' : reservation !== 'Reserved',
        `has its stock when and only when it is completed; it is ${status}, and the reservation is ${reservation}`
      ],
      [
        !completed ||
          (payment?.status === 'Completed' && payment.amount === price && payment.refunded === 0),
        `is completed when paid, ${price}; ${money}`
      ],
      [
        !completed || (account.charges === 1 && account.refunds === 0 && account.net === price),
        `is completed and charged once; ${money}`
      ],
      [
        completed || !payment || !['Pending', 'Completed', 'Refunding'].includes(payment.status),
        `has failed and keeps no money; ${money}`
      ],
      [
        completed || (account.net === 0 && account.charges <= 1 && account.refunds <= 1),
        `has failed and was given back all that was charged; ${money}`
      ],
      [appliedAgain.length === 0, `applies a message once, and not ${appliedAgain.join(', ')}`],
      [replays, 'has a history that leads to where it is']
    ]
    return rules.filter(([holds]) => !holds).map(([, rule]) => `order ${index} ${rule}`)
  }

  /** What is wrong with the stock. @param sold orders that completed */
  stock(onHand: number, reserved: number, sold: readonly number[]): string[] {
    const taken = sold.reduce((sum, index) => sum + this.#case.orders[index]!.quantity, 0)
    const { stock } = this.#case
    return onHand + reserved === stock && reserved === taken
      ? []
      : [`of ${stock} units ${taken} were sold, and ${onHand} are on hand and ${reserved} reserved`]
  }
}

export function hasEnded(saga: string): boolean {
  return saga === 'Completed' || saga === 'Failed.settled'
}

function endsOf({ product, quantity, method }: ModelOrder, stock: number, wanted: number): End[] {
  if (product === 'unknown') return ['UnknownProduct']
  if (quantity > stock) return ['OutOfStock']
  const paid: End = method === 'pm_card_chargeDeclined' ? 'CardDeclined' : 'Completed'
  return wanted <= stock ? [paid] : [paid, 'OutOfStock']
}
