import t from 'tap'
import type { AnyEventObject } from 'xstate'
import { getShortestPaths } from 'xstate/graph'
import {
  OrderCreatedEvent,
  OrderCompletedEvent,
  OrderFailedEvent
} from '../../src/contracts/order.ts'
import {
  PaymentCompletedEvent,
  PaymentFailedEvent,
  PaymentRefundedEvent,
  RefundPayment
} from '../../src/contracts/payment.ts'
import {
  ReleaseStock,
  StockNotReservedEvent,
  StockReleasedEvent,
  StockReservedEvent
} from '../../src/contracts/stock.ts'
import { message } from '../../packages/sagabox/src/messaging/message/message.ts'
import { CANCEL_ORDER } from '../../src/saga/machine.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { statesOf } from '../../packages/sagabox/src/saga/define.ts'
import { pathOf } from '../../packages/sagabox/src/saga/machine/state.ts'
import { tell, type Happening, type Story } from '../../packages/sagabox/src/testing/story.ts'

const order = {
  orderId: '01890000-0000-7000-8000-000000000001',
  customerId: 'ada',
  items: [{ productId: 'keyboard', quantity: 1 }],
  paymentMethod: 'pm_card_visa'
}
const { orderId } = order
const saga = orderSaga(30)

/** One of everything that can reach an order; each call makes messages with ids of their own. */
const SAMPLES: Record<string, () => Happening> = {
  StockReservedEvent: () => message(StockReservedEvent, { ...order, total: 1000, currency: 'EUR' }),
  StockNotReservedEvent: () =>
    message(StockNotReservedEvent, { orderId, reason: 'OutOfStock', productId: 'keyboard' }),
  StockReleasedEvent: () => message(StockReleasedEvent, { orderId }),
  PaymentCompletedEvent: () =>
    message(PaymentCompletedEvent, { orderId, amount: 1000, currency: 'EUR' }),
  PaymentFailedEvent: () => message(PaymentFailedEvent, { orderId, reason: 'CardDeclined' }),
  PaymentRefundedEvent: () => message(PaymentRefundedEvent, { orderId, amount: 1000 }),
  [CANCEL_ORDER]: () => ({ type: CANCEL_ORDER })
}

/**
 * What the machine takes in the graph: a sample of each event, and the delays of the states it is
 * in.
 */
const events: AnyEventObject[] = [
  ...Object.entries(SAMPLES).map(([type, sample]) => {
    const happening = sample()
    return 'contract' in happening ? { ...(happening.body as object), type } : { type }
  }),
  ...statesOf(saga.machine.root)
    .flatMap((node) => node.after.map(({ eventType }) => ({ type: eventType })))
    .filter(({ type }, index, all) => all.findIndex((other) => other.type === type) === index)
]

// By state and context: every situation that the machine can tell from others, by the shortest way
// to it.
const paths = getShortestPaths(saga.machine, { input: order, events })

interface Played {
  story: Story
  /** Everything sent on the way, by contract. */
  sent: string[]
  happened: string[]
}

/**
 * One step further, with what the saga sent in it; an event of the graph that is a timer's comes by
 * the passing of time.
 */
function play({ story, sent, happened }: Played, type: string): Played {
  const due = story.timers.find(({ event }) => type.startsWith(`xstate.${event.replace(' ', '.')}`))
  if (type.startsWith('xstate.after') && !due)
    throw new Error(
      `${type} is not among the timers of ${story.state}: ${JSON.stringify(story.timers)}`
    )
  const next = due ? story.forget().advance(due.dueInMs) : story.forget().when(SAMPLES[type]!())
  return {
    story: next,
    sent: [...sent, ...next.sent.map(({ contract }) => contract.name)],
    happened: [...happened, type]
  }
}

function played(steps: readonly { event: { type: string } }[]): Played {
  const start = tell(saga).given(message(OrderCreatedEvent, order))
  return steps
    .map(({ event }) => event.type)
    .filter((type) => type !== 'xstate.init')
    .reduce(play, { story: start, sent: [], happened: [] })
}

/** Cancelled if it has not ended, and everything that it asks for is answered. */
function ended(here: Played): Played {
  let end = here
  if (end.story.state.startsWith('Suspend')) end = play(end, CANCEL_ORDER)
  if (end.story.state === 'Failed.releasingStock') end = play(end, 'StockReleasedEvent')
  if (end.story.state === 'Failed.refunding') end = play(end, 'PaymentRefundedEvent')
  return end
}

/** What must be true of every order, by what has happened to it and what it has sent. */
function faultsOf({ story: { state, context }, sent, happened }: Played): string[] {
  const count = (name: string) => sent.filter((one) => one === name).length
  const since = (name: string, others: readonly string[]) =>
    !others.some((other) => happened.lastIndexOf(other) > happened.lastIndexOf(name))
  const rules: [boolean, string][] = [
    [count(OrderCompletedEvent.name) <= 1, 'it completes at most once'],
    [
      state !== 'Completed' || count(ReleaseStock.name) + count(RefundPayment.name) === 0,
      'a completed order gives nothing back'
    ],
    [
      state !== 'Completed' || happened.includes(PaymentCompletedEvent.name),
      'nothing completes unpaid'
    ],
    [
      !state.startsWith('Suspend') || sent.length === 0,
      'an order that is undecided has sent nothing'
    ],
    [
      !state.startsWith('Failed') || count(OrderFailedEvent.name) > 0,
      'who listens is told of the failure'
    ],
    [
      !state.startsWith('Failed') || typeof context['failureReason'] === 'string',
      'a failure has a reason'
    ],
    // Stock answers an order in one way.
    [
      state !== 'Failed.settled' ||
        !happened.includes(StockReservedEvent.name) ||
        happened.includes(StockNotReservedEvent.name) ||
        count(ReleaseStock.name) > 0,
      'a failed order gives back what was reserved'
    ],
    [
      state !== 'Failed.settled' ||
        !happened.includes(PaymentCompletedEvent.name) ||
        count(RefundPayment.name) > 0 ||
        !since(PaymentCompletedEvent.name, [PaymentFailedEvent.name]),
      'a failed order gives back what was paid'
    ],
    [
      state !== 'Failed.settled' || context['mayBePaid'] === false,
      'an order settles when no money can have been taken'
    ],
    [
      state !== 'Failed.refunding' || count(RefundPayment.name) > 0,
      'a refund that is waited for was asked for'
    ],
    [
      state !== 'Failed.releasingStock' || count(ReleaseStock.name) > 0,
      'a release that is waited for was asked for'
    ]
  ]
  return rules.filter(([holds]) => !holds).map(([, rule]) => rule)
}

t.test('the graph reaches every state of the order machine', async (t) => {
  const reached = new Set(paths.map(({ state }) => pathOf(state.value)))
  const leaves = statesOf(saga.machine.root).filter((node) => Object.keys(node.states).length === 0)
  t.same([...reached].toSorted(), leaves.map((node) => node.path.join('.')).toSorted())
})

t.test(
  'every situation is reached in the harness as in the graph, and every event from there keeps the rules',
  async (t) => {
    let moves = 0
    for (const { state, steps } of paths) {
      const here = played(steps)
      const way = here.happened.join(', ') || 'the start'
      t.equal(here.story.state, pathOf(state.value), `${way} lead to the state of the graph`)
      t.same(
        here.story.context,
        JSON.parse(JSON.stringify(state.context)),
        `${way} lead to the context of the graph`
      )
      const timers = here.story.timers.map(({ event }) => `xstate.${event.replace(' ', '.')}`)
      const next = events
        .map(({ type }) => type)
        .filter(
          (type) =>
            !type.startsWith('xstate.after') || timers.some((timer) => type.startsWith(timer))
        )
      for (const further of [here, ...next.map((type) => play(here, type))]) {
        moves++
        // It replays too: `then` holds the history to the row.
        further.story.forget().then(further.story.state)
        for (const one of [further, ended(further)]) {
          const faults = faultsOf(one)
          if (faults.length > 0)
            t.fail(`${one.happened.join(', ')} -> ${one.story.state}: ${faults.join('; ')}`)
        }
      }
    }
    t.comment(`${paths.length} situations, ${moves} moves`)
  }
)

t.test(
  'from every situation an order comes to its end when stock and payment answer what they are asked',
  async (t) => {
    for (const { steps } of paths) {
      const { story } = ended(played(steps))
      t.match(story.state, /^(Completed|Failed\.settled)$/)
      t.same(story.timers, [], 'nothing is left to wait for')
    }
  }
)
