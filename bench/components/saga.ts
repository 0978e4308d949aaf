// Transitions a second of the order's machine: created, stock reserved, paid. Three an instance, a
// hundred instances a transaction, one transaction at a time, as an endpoint does it. No order rows
// and no outbox: only saga and history.
import { initialTransition, transition } from 'xstate'
import { v7 as uuidv7 } from 'uuid'
import { OrderCreatedEvent } from '../../src/contracts/order.ts'
import { PaymentCompletedEvent } from '../../src/contracts/payment.ts'
import { StockReservedEvent } from '../../src/contracts/stock.ts'
import {
  message,
  type BodyOf,
  type Message
} from '../../packages/sagabox/src/messaging/message/message.ts'
import { ORDER_EVENTS, orderMachine } from '../../src/saga/machine.ts'
import { defineSaga } from '../../packages/sagabox/src/saga/steps/define-saga.ts'
import { SagaHost } from '../../packages/sagabox/src/saga/run/host.ts'
import { begin, step } from '../../packages/sagabox/src/saga/machine/step.ts'
import {
  insertHistory,
  insertInstances,
  lockInstances,
  updateInstances,
  type HistoryRow,
  type SagaRow
} from '../../packages/sagabox/src/saga/store/rows.ts'
import type { Servers } from '../servers.ts'
import { against, inTurn, perSecond, scaled, type ComponentResult } from './result.ts'
import { inWorld, type BenchService } from './world.ts'

const BATCH = 100
/** Transitions of an instance. */
const STEPS = 3

const machine = orderMachine(30)

const WRONG = `
  select count(*)::integer from saga
  where state <> 'Completed' or timers <> '[]' or version <> ${STEPS} or version <> (select count(*)
    from saga_history h where h.saga_id = saga.saga_id)`

interface Story {
  created: Message<typeof OrderCreatedEvent>
  reserved: Message<typeof StockReservedEvent>
  paid: Message<typeof PaymentCompletedEvent>
}

export function sagaTransitions(servers: Servers, scale: number): Promise<ComponentResult> {
  const count = scaled(4000, scale)
  const host = new SagaHost(
    defineSaga({ name: 'order', machine, startedBy: OrderCreatedEvent, handles: ORDER_EVENTS })
  )
  return inWorld(servers, 'saga', 'memory', async (world) => {
    const service = await world.service('sagas')
    const rates = await inTurn(
      () => batchesOf(count, (stories) => moveByHost(service, host, stories)),
      () => batchesOf(count, (stories) => moveByHand(service, stories))
    )
    const [wrong] = (await service.database.rows(WRONG)) as [{ count: number }]
    if (wrong.count > 0) throw new Error(`${wrong.count} sagas are not where their history leads`)
    return {
      name: 'saga transitions with history, in the database',
      transport: 'none',
      unit: 'transitions/s',
      ...against(
        'the same statements and transactions, rows written by hand, without XState',
        rates
      ),
      detail: `${count} instances, ${STEPS} transitions each, ${BATCH} a transaction`
    }
  })
}

export async function sagaSteps(scale: number): Promise<ComponentResult> {
  const stories = storiesOf(scaled(10_000, scale))
  const rates = await inTurn(
    () => perSecond(STEPS * stories.length, async () => stories.forEach(stepByOurs)),
    () => perSecond(STEPS * stories.length, async () => stories.forEach(stepByXState))
  )
  return {
    name: 'saga transitions in memory, step()',
    transport: 'none',
    unit: 'transitions/s',
    ...against('initialTransition() and transition() of XState', rates),
    detail: `${stories.length} instances, ${STEPS} transitions each, nothing stored`
  }
}

function storiesOf(count: number): Story[] {
  return Array.from({ length: count }, () => {
    const order: BodyOf<typeof OrderCreatedEvent> = {
      orderId: uuidv7(),
      customerId: 'ada',
      items: [
        { productId: 'p001', quantity: 1 },
        { productId: 'p002', quantity: 2 }
      ],
      paymentMethod: 'pm_card_visa'
    }
    const created = message(OrderCreatedEvent, order)
    return {
      created,
      reserved: message(StockReservedEvent, { ...order, total: 3005, currency: 'EUR' }, created),
      paid: message(
        PaymentCompletedEvent,
        { orderId: order.orderId, amount: 3005, currency: 'EUR' },
        created
      )
    }
  })
}

/** Every instance is started before the first is moved on: by then it is a row like any other. */
async function batchesOf(
  count: number,
  move: (stories: readonly Story[]) => AsyncGenerator<void>
): Promise<number> {
  const runs: AsyncGenerator<void>[] = []
  for (let done = 0; done < count; done += BATCH) runs.push(move(storiesOf(BATCH)))
  return perSecond(count * STEPS, async () => {
    for (let turn = 0; turn < STEPS; turn++) for (const one of runs) await one.next()
  })
}

async function* moveByHost(
  { outbox }: BenchService,
  host: SagaHost,
  stories: readonly Story[]
): AsyncGenerator<void> {
  const { handle } = host.handler()
  await outbox.transaction((tx) =>
    host.start(
      tx,
      stories.map(({ created }) => created),
      new Date()
    )
  )
  yield
  await outbox.transaction((tx) =>
    handle(
      stories.map(({ reserved }) => reserved),
      tx
    )
  )
  yield
  await outbox.transaction((tx) =>
    handle(
      stories.map(({ paid }) => paid),
      tx
    )
  )
  yield
}

async function* moveByHand(
  { outbox }: BenchService,
  stories: readonly Story[]
): AsyncGenerator<void> {
  const ids = stories.map(({ created }) => created.body.orderId)
  await outbox.transaction(async (tx) => {
    const dueAt = new Date(Date.now() + 30_000).toISOString()
    const timers = [{ id: 'deadline', event: 'xstate.after.deadline.order.Suspend', dueAt }]
    insertInstances(
      tx,
      'order',
      stories.map(({ created }) => sagaRow(created, { timers }))
    )
    insertHistory(
      tx,
      'order',
      stories.map(({ created }) => historyRow(created, 1, null, 'Suspend.reservingStock', []))
    )
  })
  yield
  await outbox.transaction(async (tx) => {
    const locked = new Map((await lockInstances(tx, 'order', ids)).map((row) => [row.saga_id, row]))
    updateInstances(
      tx,
      'order',
      ids.map((id) => locked.get(id)!),
      stories.map(({ created, reserved: { body } }) => {
        const { timers } = locked.get(body.orderId)!
        return sagaRow(created, {
          state: 'Suspend.takingPayment',
          value: { Suspend: 'takingPayment' },
          total: body.total,
          currency: body.currency,
          version: 2,
          timers
        })
      })
    )
    insertHistory(
      tx,
      'order',
      stories.map(({ reserved }) =>
        historyRow(reserved, 2, 'Suspend.reservingStock', 'Suspend.takingPayment', [])
      )
    )
  })
  yield
  await outbox.transaction(async (tx) => {
    const locked = new Map((await lockInstances(tx, 'order', ids)).map((row) => [row.saga_id, row]))
    const ended = stories.map(({ created, paid: { body } }) =>
      sagaRow(created, {
        state: 'Completed',
        value: 'Completed',
        total: body.amount,
        currency: body.currency,
        version: 3
      })
    )
    updateInstances(
      tx,
      'order',
      ids.map((id) => locked.get(id)!),
      ended
    )
    insertHistory(
      tx,
      'order',
      stories.map(({ paid }) =>
        historyRow(paid, 3, 'Suspend.takingPayment', 'Completed', [
          { type: 'OrderCompletedEvent', messageId: uuidv7() }
        ])
      )
    )
  })
  yield
}

function sagaRow(
  { body: { orderId, customerId } }: Story['created'],
  changed: Partial<SagaRow> & { total?: number; currency?: string }
): SagaRow {
  const {
    state = 'Suspend.reservingStock',
    value = { Suspend: 'reservingStock' },
    version = 1,
    timers = [],
    total = null,
    currency = null
  } = changed
  return {
    key: null,
    saga_id: orderId,
    state,
    value,
    context: { orderId, customerId, total, currency, failureReason: null, mayBePaid: false },
    version,
    timers,
    machine_version: 1,
    deferred: null,
    stuck_since: null,
    last_error: null
  }
}

function historyRow(
  { contract, body, messageId }: Message,
  sequence: number,
  from: string | null,
  to: string,
  sent: HistoryRow['sent']
): HistoryRow {
  const { orderId } = body as { orderId: string }
  return {
    saga_id: orderId,
    sequence,
    event: contract.name,
    body,
    message_id: messageId,
    from_state: from,
    to_state: to,
    sent,
    note: null,
    machine_version: 1
  }
}

function stepByOurs({ created, reserved, paid }: Story): void {
  const first = begin(machine, created.body)
  const second = step(machine, first.snapshot, { type: 'StockReservedEvent', ...reserved.body })
  const third = step(machine, second.snapshot, { type: 'PaymentCompletedEvent', ...paid.body })
  if (third.to !== 'Completed') throw new Error(`Ended in ${third.to}`)
}

function stepByXState({ created, reserved, paid }: Story): void {
  const [first] = initialTransition(machine, created.body)
  const [second] = transition(machine, first, { type: 'StockReservedEvent', ...reserved.body })
  const [third] = transition(machine, second, { type: 'PaymentCompletedEvent', ...paid.body })
  if (third.value !== 'Completed') throw new Error(`Ended in ${JSON.stringify(third.value)}`)
}
