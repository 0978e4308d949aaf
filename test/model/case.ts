import fc from 'fast-check'

export const METHODS = ['pm_card_visa', 'pm_card_chargeDeclined', 'pm_sim_lost_response', 'pm_sim_fails_twice', 'pm_sim_answers_twice'] as const

export interface ModelOrder {
  product: 'known' | 'unknown'
  quantity: number
  method: (typeof METHODS)[number]
}

/** Messages by where they arrive. */
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
  ['order', 'PaymentRefundedEvent']
] as const
export type Route = (typeof ROUTES)[number]

/** What happens to the system, in its order; orders go by their place in the case. */
export type ModelEvent =
  | { do: 'place'; order: number }
  /** The order's messages on a route are kept from their endpoint, in any number, until they are let go. */
  | { do: 'hold' | 'release'; order: number; route: Route }
  /** The next such message is handled, and its acknowledgement lost in a crash: it comes again. */
  | { do: 'loseAck'; order: number; route: Route }
  /** One of the messages sent so far for the order comes once more: as a redelivery, or as another message. */
  | { do: 'repeat'; order: number; nth: number; ids: 'same' | 'new' }
  /** The next transaction of the service is rolled back at its commit. */
  | { do: 'rollBack'; service: 'order' | 'stock' | 'payment' }
  | { do: 'deadline' | 'cancel' | 'retry'; order: number }
  /** All services stop in the middle of what they do, and start again on the same database. */
  | { do: 'restart' }
  /** Nothing else happens until the orders rest, or wait for what is held. */
  | { do: 'rest' }

/** One run of the model, as it is saved. */
export interface ModelCase {
  stock: number
  orders: ModelOrder[]
  events: ModelEvent[]
}

const MOST_ORDERS = 3
const order = fc.nat(MOST_ORDERS - 1)
const route = fc.constantFrom(...ROUTES)

const happening: fc.Arbitrary<ModelEvent> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('place'), order }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('hold', 'release'), order, route }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('loseAck'), order, route }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('repeat'), order, nth: fc.nat(9), ids: fc.constantFrom('same', 'new') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('rollBack'), service: fc.constantFrom('order', 'stock', 'payment') }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('deadline', 'cancel', 'retry'), order }) },
  { weight: 4, arbitrary: fc.constant({ do: 'rest' }) },
  { arbitrary: fc.constant({ do: 'restart' }), weight: 1 }
) as fc.Arbitrary<ModelEvent>

export const modelCase: fc.Arbitrary<ModelCase> = fc.record({
  stock: fc.integer({ min: 0, max: 6 }),
  orders: fc.array(
    fc.record({ product: fc.constantFrom('known', 'known', 'known', 'known', 'unknown' as const), quantity: fc.integer({ min: 1, max: 3 }), method: fc.constantFrom('pm_card_visa', ...METHODS) }) as fc.Arbitrary<ModelOrder>,
    { minLength: MOST_ORDERS, maxLength: MOST_ORDERS }
  ),
  events: fc.array(happening, { maxLength: 24, size: 'max' }).map((events) => [{ do: 'place', order: 0 } as const, ...events])
})
