import t from 'tap'
import { contracts, defineSaga, ignore, type States, Type } from '../../src/index.ts'
import { describe } from '../../src/saga/inspect/diagram.ts'
import { checkSaga } from '../../src/saga/inspect/check.ts'
import { moveByXState } from '../../src/saga/machine/move.ts'
import { planMove } from '../../src/saga/machine/plan.ts'
import { restore } from '../../src/saga/machine/state.ts'
import { timedStatesOf } from '../../src/saga/machine/states.ts'
import { SagaInstance } from '../../src/saga/run/instance.ts'
import { tell } from '../../src/testing/story.ts'

const club = contracts('club', { correlateBy: 'memberId' })
const Id = { memberId: Type.String({ format: 'uuid' }) }
const Joined = club.event('Joined', Id)
const Paid = club.event('Paid', Id)
const Moved = club.event('Moved', Id)
const Remind = club.command('Remind', { ...Id, reminders: Type.Integer() })

const membership = defineSaga(
  'membership',
  {
    startedBy: Joined,
    handles: [Paid, Moved],
    context: ({ memberId }) => ({ memberId, reminders: 0 })
  },
  ({ send, set }) => ({
    initial: 'owing',
    states: {
      owing: {
        every: {
          '1d': [
            set(({ reminders }) => ({ reminders: reminders + 1 })),
            send(Remind, ({ memberId, reminders }) => ({ memberId, reminders }))
          ]
        },
        after: { '7.5d': 'expelled' },
        on: { Paid: 'member', Moved: { target: 'owing', reenter: true } }
      },
      member: { tags: 'end', on: { '*': ignore('a member') } },
      expelled: { tags: 'end', on: { '*': ignore('expelled') } }
    }
  })
)

const END = { tags: 'end', on: { '*': ignore('it is over') } } as const

const id = '01890000-0000-7000-8000-000000000001'
const { given } = tell(membership)
const reminder = (reminders: number) => Remind({ memberId: id, reminders })

t.test('it is done at an even pace, and the deadline beside it stays', async (t) => {
  const owing = given(Joined({ memberId: id }))
  t.same(owing.timers, [
    { event: 'after 7.5d', dueInMs: 7.5 * 86_400_000 },
    { event: 'every 1d', dueInMs: 86_400_000 }
  ])
  owing
    .advance('23h')
    .then('owing')
    .advance('1h')
    .then('owing', [reminder(1)])
    .advance('1d')
    .then('owing', [reminder(2)])
    .advance('5d')
    .then('owing', [3, 4, 5, 6, 7].map(reminder))
    .advance('12h')
    .then('expelled')
    .advance('10d')
    .then('expelled')
  owing
    .advance('2d')
    .forget()
    .when(Paid({ memberId: id }))
    .then('member')
    .advance('9d')
    .then('member')
})

t.test('a short pace is kept, too', async (t) => {
  const knocking = defineSaga('knocking', { startedBy: Joined, handles: [Paid] }, ({ send }) => ({
    initial: 'outside',
    states: {
      outside: {
        every: { '10s': send(Remind, ({ memberId }) => ({ memberId, reminders: 0 })) },
        on: { Paid: 'inside' }
      },
      inside: END
    }
  }))
  const knocked = tell(knocking)
    .given(Joined({ memberId: id }))
    .advance('10m')
  t.equal(knocked.sent.length, 60)
})

t.test('a state that is entered anew counts anew', async () => {
  given(Joined({ memberId: id }))
    .advance('23h')
    .when(Moved({ memberId: id }))
    .advance('23h')
    .then('owing')
    .advance('1h')
    .then('owing', [reminder(1)])
})

t.test('after a standstill it is done once, and then at its own times', async (t) => {
  const start = new Date('2026-01-01T09:00:00.000Z')
  const begun = SagaInstance.start(membership, Joined({ memberId: id }), start)
  const later = new Date('2026-01-05T11:30:00.000Z')
  const instance = SagaInstance.load(membership, begun.toRow(), later)
  instance.fire(later)
  t.equal(instance.sent.length, 1)
  const row = instance.toRow()
  t.same(
    row.timers.map(({ dueAt }) => dueAt),
    ['2026-01-08T21:00:00.000Z', '2026-01-06T09:00:00.000Z']
  )
  t.equal(row.stuck_since, null, 'a reminder is not a deadline that changed nothing')
})

t.test('the plan of it does what XState does', async (t) => {
  const { machine } = membership
  const before = restore(machine, 'owing', { memberId: id, reminders: 4 })
  const event = { type: 'xstate.after.every 1d.membership.owing' }
  const planned = planMove(machine, before, event)!
  const moved = moveByXState(machine, (scope) => machine.transition(before, event, scope))
  const raised = ({ actions }: typeof planned) =>
    actions.map(({ type, params }) => ({ type, params: JSON.stringify(params) }))
  t.same(raised(planned), raised(moved))
  t.same(planned.snapshot.context, { memberId: id, reminders: 5 })
  t.same(moved.snapshot.context, { memberId: id, reminders: 5 })
})

t.test('the checks and the picture know it', async (t) => {
  t.same(
    checkSaga(simple({ states: { a: { every: { '1d': [] }, on: { Paid: 'b' } }, b: END } })),
    []
  )
  t.match(checkSaga(simple({ states: { a: { on: { Paid: 'b' } }, b: END } })), [
    /without a deadline/
  ])
  t.match(
    checkSaga(
      simple({
        states: {
          a: { after: { '1s': 'b' }, on: { Paid: 'b' } },
          b: { ...END, every: { '1d': [] } }
        }
      })
    ),
    [/b has the tag end and waits for every 1d/]
  )
  t.ok(
    describe(membership).transitions.some(
      ({ from, event, to }) => from === 'owing' && event === 'every 1d' && to === 'owing'
    )
  )
  t.same(timedStatesOf(membership), ['owing'])
  t.same(timedStatesOf(simple({ every: { '1d': [] }, states: { a: {}, b: END } })), ['a', 'b'])
})

t.test('a pace that is none is refused where it is written', async (t) => {
  const paced = (pace: string) => () =>
    simple({ states: { a: { every: { [pace]: [] }, on: { Paid: 'b' } }, b: END } })
  t.throws(paced('daily'), { code: 'INVALID_DURATION', message: /"daily" is no duration/ })
  t.throws(paced('999ms'), /state simple.a does something every 999ms: expected 1s or more/)
  t.throws(paced('0s'), /expected 1s or more/)
})

function simple(states: Partial<States<object, 'Paid'>>) {
  return defineSaga('simple', { startedBy: Joined, handles: [Paid] }, () => ({
    initial: 'a',
    states: {},
    ...states
  }))
}
