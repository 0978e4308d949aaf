import type { ModelCase, ModelOrder } from './case.ts'

/** How an order may end. */
export type End = 'Completed' | 'Failed'

/** What was seen of an order after everything had come to rest. */
export interface Rest {
  saga: string
  status: string
  reservation: string | undefined
  payment: { status: string; amount: number; refunded: number } | undefined
  /** Money that the gateway holds for it. */
  held: number
  replays: boolean
}

/** What anybody would expect of a shop, without knowing how it is built: for each order, the ends that are allowed. */
export class Reference {
  readonly #case: ModelCase
  readonly #ends: Set<End>[]

  constructor(played: ModelCase) {
    this.#case = played
    const wanted = played.orders.filter(({ product }) => product === 'known').reduce((sum, { quantity }) => sum + quantity, 0)
    this.#ends = played.orders.map((order) => endsOf(order, played.stock, wanted <= played.stock))
  }

  /** The deadline passes: whichever of the two is first decides. */
  deadline(order: number): void {
    this.#ends[order]!.add('Failed')
  }

  /** @param accepted the customer was told that the order is cancelled */
  cancelled(order: number, accepted: boolean): void {
    if (accepted) this.#ends[order] = new Set(['Failed'])
  }

  /** What is wrong with an order that was placed. */
  order(index: number, { saga, status, reservation, payment, held, replays }: Rest): string[] {
    const allowed = [...this.#ends[index]!]
    const kept = payment && ['Completed', 'Refunding', 'Pending'].includes(payment.status) ? payment.amount - payment.refunded : 0
    const rules: [boolean, string][] = [
      [saga === 'Completed' || saga === 'Failed.settled', `ends, and is ${saga}`],
      [allowed.includes(status as End), `ends as one of ${allowed.join(', ')}, and is ${status}`],
      [saga.split('.')[0] === status, `is the same everywhere, and is ${status} with a saga that is ${saga}`],
      [status !== 'Completed' || reservation === 'Reserved', `is completed with its stock, and the reservation is ${reservation}`],
      [status !== 'Completed' || (payment?.status === 'Completed' && payment.refunded === 0 && held === payment.amount), `is completed when paid, and the payment is ${JSON.stringify(payment)}, and the gateway holds ${held}`],
      [status !== 'Failed' || reservation !== 'Reserved', 'has failed and gives its stock back'],
      [status !== 'Failed' || kept === 0, `has failed and keeps no money, and the payment is ${JSON.stringify(payment)}`],
      [status !== 'Failed' || held === 0, `has failed and gives all money back, and the payment is ${JSON.stringify(payment)}, and the gateway holds ${held}`],
      [replays, 'has a history that leads to where it is']
    ]
    return rules.filter(([holds]) => !holds).map(([, rule]) => `order ${index} ${rule}`)
  }

  /** What is wrong with the stock. @param sold orders that completed */
  stock(onHand: number, reserved: number, sold: readonly number[]): string[] {
    const taken = sold.reduce((sum, index) => sum + this.#case.orders[index]!.quantity, 0)
    const { stock } = this.#case
    return onHand + reserved === stock && reserved === taken ? [] : [`of ${stock} units ${taken} are sold, and ${onHand} are on hand and ${reserved} reserved`]
  }
}

function endsOf({ product, quantity, method }: ModelOrder, stock: number, enoughForAll: boolean): Set<End> {
  if (product === 'unknown' || quantity > stock || method === 'pm_card_chargeDeclined') return new Set(['Failed'])
  return new Set(enoughForAll ? ['Completed'] : ['Completed', 'Failed'])
}
