import fc from 'fast-check'
import type { ServiceName } from '../../src/shop.ts'

export const METHODS = [
  'pm_card_visa',
  'pm_card_chargeDeclined',
  'pm_sim_lost_response',
  'pm_sim_fails_twice',
  'pm_sim_answers_twice'
] as const

export interface ModelOrder {
  product: 'known' | 'unknown'
  quantity: number
  method: (typeof METHODS)[number]
}

/** Messages by where they arrive; a star is all that arrives there. */
export const ROUTES = [
  ['stock', 'OrderCreatedEvent'],
  ['stock', 'ReleaseStock'],
  ['payment', 'StockReservedEvent'],
  ['payment', 'RefundPayment'],
  ['order', 'StockReservedEvent'],
  ['order', 'StockNotReservedEvent'],
  ['order', 'StockReleasedEvent'],
  ['order', 'PaymentCompletedEvent'],
  ['order', 'PaymentFailedEvent'],
  ['order', 'PaymentRefundedEvent'],
  ['stock', '*'],
  ['payment', '*'],
  ['order', '*']
] as const
export type Route = (typeof ROUTES)[number]

/** What happens to the system, in its order; orders go by their place in the case. */
export type ModelEvent =
  | { do: 'place'; order: number }
  /**
   * The order's messages on a route are kept from their endpoint until they are let go, the last
   * first. It need not be placed yet.
   */
  | { do: 'hold' | 'release'; order: number; route: Route }
  /** The next such message is handled, and its acknowledgement lost: it comes again. */
  | { do: 'loseAck'; order: number; route: Route }
  /**
   * One of the messages sent so far for the order comes once more: as a redelivery, or as another
   * message.
   */
  | { do: 'repeat'; order: number; nth: number; ids: 'same' | 'new' }
  /** The next transaction of the service is rolled back at its commit. */
  | { do: 'rollBack'; service: ServiceName }
  /**
   * The next transaction of the service is the last thing that happens: the process dies right
   * before its commit, or right after.
   */
  | { do: 'die'; service: ServiceName; commit: 'before' | 'after' }
  /** The process dies in the middle of whatever it does, and starts again. */
  | { do: 'restart' }
  | { do: 'deadline' | 'cancel' | 'retry'; order: number }
  /** The payment gateway cannot be reached any more, or can be again. */
  | { do: 'gateway'; works: boolean }
  /** Nothing else happens until the orders rest, or wait for what is held. */
  | { do: 'rest' }

/** One run of the model, as it is saved. */
export interface ModelCase {
  stock: number
  orders: ModelOrder[]
  events: ModelEvent[]
}

const MOST_ORDERS = 3
/**
 * A message that meets more deaths than these rightly becomes a dead letter: see
 * packages/sagabox/src/messaging/inbox/unfinished.ts.
 */
const MOST_DEATHS = 3

// Few orders to which much happens.
const order = fc.constantFrom(0, 0, 0, 1, 1, 2)
const route = fc.constantFrom(...ROUTES)
const service = fc.constantFrom<ServiceName>('order', 'stock', 'payment')

const rest: fc.Arbitrary<ModelEvent> = fc.constant({ do: 'rest' })
const hold = fc.record({ do: fc.constant('hold'), order, route })
const place = fc.record({ do: fc.constant('place'), order })
const decision = fc.record({ do: fc.constantFrom('deadline', 'cancel', 'retry'), order })

/** An order is held up somewhere, and meanwhile it is decided. */
const heldUp = fc
  .tuple(hold, fc.constantFrom('deadline', 'cancel'))
  .map(([held, decided]): ModelEvent[] => [
    held,
    { do: 'place', order: held.order },
    { do: 'rest' },
    { do: decided, order: held.order },
    { do: 'rest' }
  ])

/**
 * What happens one after the other; more often than chance would have it, what one has to wait for
 * to see anything.
 */
const happenings: fc.Arbitrary<ModelEvent[]> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(place) },
  { weight: 3, arbitrary: heldUp },
  { weight: 2, arbitrary: fc.tuple(decision, rest) },
  { weight: 2, arbitrary: fc.tuple(decision) },
  { weight: 2, arbitrary: fc.tuple(hold) },
  { weight: 2, arbitrary: fc.tuple(fc.record({ do: fc.constant('release'), order, route })) },
  { weight: 2, arbitrary: fc.tuple(fc.record({ do: fc.constant('loseAck'), order, route })) },
  {
    weight: 3,
    arbitrary: fc.tuple(
      fc.record({
        do: fc.constant('repeat'),
        order,
        nth: fc.nat(9),
        ids: fc.constantFrom('same', 'new')
      })
    )
  },
  { weight: 1, arbitrary: fc.tuple(fc.record({ do: fc.constant('rollBack'), service })) },
  {
    weight: 1,
    arbitrary: fc.tuple(
      fc.record({ do: fc.constant('die'), service, commit: fc.constantFrom('before', 'after') })
    )
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.record({ do: fc.constant('gateway'), works: fc.boolean() }))
  },
  { weight: 2, arbitrary: fc.tuple(rest) },
  { weight: 1, arbitrary: fc.constant<ModelEvent[]>([{ do: 'restart' }]) }
)

export const modelCase: fc.Arbitrary<ModelCase> = fc.record({
  stock: fc.integer({ min: 0, max: 6 }),
  orders: fc.array(
    fc.record({
      product: fc.constantFrom('known', 'known', 'known', 'known', 'unknown'),
      quantity: fc.integer({ min: 1, max: 3 }),
      method: fc.constantFrom('pm_card_visa', ...METHODS)
    }) as fc.Arbitrary<ModelOrder>,
    { minLength: MOST_ORDERS, maxLength: MOST_ORDERS }
  ),
  events: fc
    .array(happenings, { minLength: 1, maxLength: 16, size: 'max' })
    .map((all) => withFewDeaths(all.flat()))
})

function withFewDeaths(events: ModelEvent[]): ModelEvent[] {
  let deaths = 0
  return events.filter(
    (event) => (event.do !== 'die' && event.do !== 'restart') || ++deaths <= MOST_DEATHS
  )
}

/** A case as people read it. */
export function sentences({ stock, orders, events }: ModelCase): string[] {
  return [
    `${stock} ${stock === 1 ? 'unit' : 'units'} on the shelf`,
    ...events.map((event, index) => `${index + 1}. ${sentence(event, orders)}`)
  ]
}

function sentence(event: ModelEvent, orders: readonly ModelOrder[]): string {
  switch (event.do) {
    case 'place': {
      const { product, quantity, method } = orders[event.order]!
      return `order ${event.order} is placed: ${quantity} of ${product === 'known' ? 'the product' : 'a product that nobody knows'}, ${method}`
    }
    case 'hold':
      return `${named(event.route)} of order ${event.order} is held before ${event.route[0]}`
    case 'release':
      return `${named(event.route)} of order ${event.order} goes on to ${event.route[0]}`
    case 'loseAck':
      return `the acknowledgement of the next ${named(event.route)} of order ${event.order} by ${event.route[0]} is lost`
    case 'repeat':
      return `message ${event.nth} of those sent for order ${event.order} comes again, under ${event.ids === 'same' ? 'its id' : 'another id'}`
    case 'rollBack':
      return `the next transaction of ${event.service} is rolled back`
    case 'die':
      return `the process dies ${event.commit} the next commit of ${event.service}`
    case 'restart':
      return 'the process dies'
    case 'deadline':
      return `the deadline of order ${event.order} passes`
    case 'cancel':
      return `order ${event.order} is cancelled`
    case 'retry':
      return `an operator retries order ${event.order}`
    case 'gateway':
      return event.works ? 'the gateway can be reached' : 'the gateway cannot be reached'
    case 'rest':
      return 'all comes to rest'
  }
}

function named([, type]: Route): string {
  return type === '*' ? 'any message' : type
}
