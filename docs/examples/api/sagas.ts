// Examples of the reference: sagas. Imports are left out there.
import assert from 'node:assert/strict'
import {
  contracts,
  defer,
  defineSaga,
  END,
  ignore,
  pathOf,
  sagaActions,
  send,
  statusOf,
  Type,
  type Action,
  type All,
  type Duration,
  type Effect,
  type ExtraTransition,
  type GivenUp,
  type Patience,
  type PendingTimer,
  type SagaChange,
  type SagaDefinition,
  type SagaEvent,
  type SagaHost,
  type SagaMove,
  type SagaOptions,
  type SagaSnapshot,
  type Says,
  type Send,
  type SendOptions,
  type State,
  type States,
  type Step,
  type StepOptions,
  type StepsOptions,
  type StepTools,
  type Tools,
  type Transition,
  type Transitions,
  type Tx
} from 'sagabox'
import { setup } from 'xstate'

const Id = Type.String()
const shipping = contracts('shipping', { correlateBy: 'parcelId' })
const courier = contracts('courier', { correlateBy: 'parcelId' })
const ParcelRequested = shipping.event('ParcelRequested', { parcelId: Id, address: Id })
const ParcelShipped = shipping.event('ParcelShipped', { parcelId: Id })
const ParcelFailed = shipping.event('ParcelFailed', { parcelId: Id, reason: Id })
const BookCourier = courier.command('BookCourier', { parcelId: Id, address: Id })
const CancelCourier = courier.command('CancelCourier', { parcelId: Id })
const CourierBooked = courier.event('CourierBooked', { parcelId: Id })
const CourierCancelled = courier.event('CourierCancelled', { parcelId: Id })
const StreetClosed = courier.event('StreetClosed', { parcelId: Id, street: Id })

interface Parcel {
  parcelId: string
  address: string
}

// Example: defineSaga, SagaDefinition, SagaOptions, Effect
const booked: Effect = { doneBy: CourierBooked, undoneBy: CancelCourier }
const options: SagaOptions<typeof ParcelRequested, [typeof CourierBooked], Parcel> = {
  startedBy: ParcelRequested,
  handles: [CourierBooked],
  effects: [booked],
  pointOfNoReturn: 'booked'
}
// By its states.
const parcel: SagaDefinition = defineSaga('parcel', options, (tools) => ({
  initial: 'booking',
  states: {
    booking: {
      entry: tools.send(BookCourier, (known) => known),
      on: { CourierBooked: 'booked' },
      after: { '1m': 'givenUp' }
    },
    booked: { tags: 'end', on: { CourierBooked: tools.ignore('booked before') } },
    givenUp: {
      tags: 'end',
      on: {
        CourierBooked: {
          actions: tools.send(CancelCourier, ({ parcelId }) => ({ parcelId }))
        }
      }
    }
  }
}))
// By its steps.
const sameInSteps = defineSaga('parcel-in-steps', {
  startedBy: ParcelRequested,
  steps: ({ step }) => [
    step('courier', {
      do: BookCourier,
      done: CourierBooked,
      within: '1m',
      undo: CancelCourier,
      undone: CourierCancelled
    })
  ],
  completed: ParcelShipped,
  failed: ParcelFailed
})
assert.deepEqual([parcel.name, sameInSteps.name], ['parcel', 'parcel-in-steps'])

// Example: Tools, States, State, Transition, Transitions, Action
// Parts of states as functions of their own.
type Event = 'CourierBooked'
const book = ({ send: toSend }: Tools<Parcel>): Action => toSend(BookCourier, (known) => known)
const whenBooked: Transition<Parcel> = {
  target: 'booked',
  guard: ({ context }) => context.address !== ''
}
const byBooking: Transitions<Parcel> = [whenBooked, { target: 'nowhere' }]
const booking = (tools: Tools<Parcel>): State<Parcel, Event> => ({
  entry: book(tools),
  on: { CourierBooked: byBooking }
})
const states = (tools: Tools<Parcel>): States<Parcel, Event> => ({
  initial: 'booking',
  states: { booking: booking(tools), booked: { tags: 'end' }, nowhere: { tags: 'end' } },
  on: { CourierBooked: tools.ignore('booked before') }
})
assert.equal(defineSaga('by-parts', options, states).machine.id, 'by-parts')

// Example: sagaActions, send, ignore, defer, END, Send, SendOptions
// A machine written with XState's own setup. It never invokes or spawns.
const tomorrow: SendOptions = { after: '1d' }
const machine = setup({
  types: { context: {} as Parcel, input: {} as Parcel },
  actions: sagaActions
}).createMachine({
  id: 'by-hand',
  context: ({ input }) => input,
  initial: 'booking',
  states: {
    booking: {
      entry: send(BookCourier, (known: Parcel) => known),
      on: { CourierBooked: 'booked', CourierCancelled: defer() }
    },
    booked: {
      tags: END,
      entry: send(ParcelShipped, ({ parcelId }: Parcel) => ({ parcelId }), tomorrow),
      on: { CourierBooked: ignore('booked before'), CourierCancelled: ignore('too late') }
    }
  }
})
const byHand = defineSaga({
  name: 'by-hand',
  machine,
  startedBy: ParcelRequested,
  handles: [CourierBooked, CourierCancelled]
})
assert.equal(byHand.machine.id, 'by-hand')

// What the host reads of such an action.
const action = send(CancelCourier, ({ parcelId }: Parcel) => ({ parcelId }), tomorrow)
const sent: Send | undefined = action.params({ context: { parcelId: 'P-1', address: '' } })
assert.deepEqual(sent?.after, 24 * 3600 * 1000)

// Example: pathOf, statusOf
assert.equal(pathOf({ doing: 'courier' }), 'doing.courier')
assert.equal(statusOf('doing.courier'), 'doing')

// Example: SagaChange
/** `project`: the service's own table follows, in the transaction that moves the instances. */
async function project(tx: Tx, changes: readonly SagaChange[]): Promise<void> {
  for (const { key, status } of changes)
    await tx.query('update parcels set status = $2 where parcel_id = $1', [key, status])
}
assert.equal({ ...parcel, project }.project, project)

// Example: SagaSnapshot, PendingTimer
/** `migrate`: version 1 had no deadline, and called the first state otherwise. */
function migrate({ value, context, timers }: SagaSnapshot, from: number) {
  if (from !== 1) return undefined
  const kept: readonly PendingTimer[] = timers
  return { value: value === 'asking' ? 'booking' : value, context, timers: kept }
}
assert.deepEqual(migrate({ value: 'asking', context: {}, timers: [] }, 1)?.value, 'booking')

// Example: SagaHost, SagaMove, SagaEvent
/** Cancels in a transaction of the service; false when the instance does not take it. */
async function cancel(host: SagaHost, tx: Tx, parcelId: string): Promise<boolean> {
  const event: SagaEvent = { type: 'CancelParcel' }
  const moved: (SagaMove & { taken: boolean }) | undefined = await host.ask(tx, parcelId, event)
  if (moved) tx.send(...moved.messages)
  return moved?.taken ?? false
}
assert.equal(cancel.length, 3)

// Example: StepTools, Step, All, StepOptions, Patience, Duration, Says, GivenUp
// Parts of steps as functions of their own.
const soon: Duration = '10s'
const patience: Patience = { within: soon, retry: 2 }
const bookIt: Says<Parcel> = BookCourier
const undoIt: Says<Parcel & GivenUp> = CancelCourier
const byCourier: StepOptions<Parcel, typeof CourierBooked> = {
  do: bookIt,
  done: CourierBooked,
  undo: undoIt,
  undone: CourierCancelled
}
const first = ({ step }: StepTools<Parcel>): Step<Parcel> => step('courier', byCourier)
const together = (tools: StepTools<Parcel>): All<Parcel> => tools.all([first(tools)], patience)

const inParts = defineSaga('in-parts', {
  startedBy: ParcelRequested,
  steps: (tools) => [together(tools)]
})
assert.equal(inParts.machine.id, 'in-parts')

// Example: StepsOptions, ExtraTransition
const closed: ExtraTransition<Parcel, { street: string }> = {
  set: (_, { street }) => ({ address: `not ${street}` }),
  giveUp: 'the street is closed'
}
const more: StepsOptions<typeof ParcelRequested, [typeof StreetClosed], Parcel> = {
  startedBy: ParcelRequested,
  within: '2m',
  cancelBy: 'CancelParcel',
  steps: ({ step }) => [step('courier', byCourier)],
  handles: [StreetClosed],
  on: { StreetClosed: closed }
}
assert.deepEqual(defineSaga('with-more', more).asks, ['CancelParcel'])

// End of examples
