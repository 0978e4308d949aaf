import Type from 'typebox'
import t from 'tap'
import { assign, createMachine, setup, type AnyStateMachine } from 'xstate'
import { parcel } from '../../docs/examples/parcel.ts'
import { command, event } from '../../packages/sagabox/src/messaging/message/message.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { checkSaga } from '../../packages/sagabox/src/saga/inspect/check.ts'
import {
  defer,
  ignore,
  sagaActions,
  send,
  type SagaDefinition
} from '../../packages/sagabox/src/saga/define.ts'
import { defineSaga } from '../../packages/sagabox/src/saga/steps/define-saga.ts'

const schema = Type.Object({ id: Type.String({ format: 'uuid' }) })
const Started = event('StartedEvent', { owner: 'a', correlateBy: 'id', schema })
const Done = event('DoneEvent', { owner: 'b', correlateBy: 'id', schema })
const Failed = event('FailedEvent', { owner: 'b', correlateBy: 'id', schema })
const Undo = command('Undo', { owner: 'b', correlateBy: 'id', schema })

t.test('the machines of this repository pass', async (t) => {
  t.same(checkSaga(orderSaga(30)), [])
  t.same(checkSaga(parcel), [])
})

t.test('an event that a state does not decide', async (t) => {
  t.same(
    findings({ states: { Waiting: { after: { 1000: 'End' } }, End: end() } }, { handles: [Done] }),
    ['Waiting does not decide DoneEvent: handle it, ignore it with a reason, or defer it']
  )
  t.same(
    findings(
      {
        states: {
          Waiting: {
            on: { DoneEvent: { guard: 'always', target: 'End' } },
            after: { 1000: 'End' }
          },
          End: end()
        }
      },
      { handles: [Done] }
    ),
    [
      'Waiting decides DoneEvent only when a guard lets it: give it a last alternative without a guard'
    ]
  )
  t.same(
    findings(
      { states: { Waiting: { on: { DoneEvent: {} }, after: { 1000: 'End' } }, End: end() } },
      { handles: [Done] }
    ),
    ['Waiting does not decide DoneEvent: handle it, ignore it with a reason, or defer it'],
    'to do nothing without a reason is no decision'
  )
  t.same(
    findings(
      {
        states: {
          Waiting: { on: { CancelThing: 'End' }, after: { 1000: 'End' } },
          End: { tags: 'end' }
        }
      },
      { asks: ['CancelThing'] }
    ),
    ['End does not decide CancelThing: handle it, ignore it with a reason, or defer it'],
    'nor does what comes without a message go unnoticed'
  )
})

t.test('a wait without a deadline', async (t) => {
  t.same(
    findings(
      { states: { Waiting: { on: { DoneEvent: 'End' } }, End: end() } },
      { handles: [Done] }
    ),
    [
      'Waiting waits without a deadline: give it, or a state around it, an after; or, if it waits for nothing, the tag end'
    ]
  )
  const around = {
    states: {
      Outer: {
        initial: 'Waiting',
        after: { 1000: 'End' },
        states: { Waiting: { on: { DoneEvent: '#m.End' } } }
      },
      End: end()
    }
  }
  t.same(
    findings({ ...around, initial: 'Outer' }, { handles: [Done] }),
    [],
    'the deadline of a state around it counts'
  )
})

t.test(
  'a state from which no end can be reached, one that cannot be reached, and no end at all',
  async (t) => {
    const lost = {
      states: {
        Waiting: { on: { DoneEvent: 'End', FailedEvent: 'Lost' }, after: { 1000: 'End' } },
        Lost: {
          on: { DoneEvent: ignore('lost'), FailedEvent: ignore('lost') },
          after: { 1000: { target: 'Lost', reenter: true } }
        },
        End: end()
      }
    }
    t.same(findings(lost, { handles: [Done, Failed] }), [
      'No end can be reached from Lost: give it a way to a state with the tag end'
    ])
    t.same(
      findings({
        states: {
          Waiting: { after: { 1000: 'End' } },
          Island: { after: { 1000: 'End' } },
          End: end()
        }
      }),
      [
        'Island cannot be reached: no event leads there from the start; leave it out, or give samples whose bodies pass the guards'
      ]
    )
    t.same(
      findings({ states: { Waiting: { after: { 1000: { target: 'Waiting', reenter: true } } } } }),
      [
        'No state is an end: give those in which an instance waits for nothing the tag end',
        'No end can be reached from Waiting: give it a way to a state with the tag end'
      ]
    )
  }
)

t.test('an effect that is left behind', async (t) => {
  const effects = [{ doneBy: Done, undoneBy: Undo }]
  const working = {
    on: { DoneEvent: 'Paying', FailedEvent: ignore('not yet') },
    after: { 1000: 'GivenUp' }
  }
  const paying = {
    on: { DoneEvent: ignore('twice'), FailedEvent: 'GivenUp' },
    after: { 1000: 'GivenUp' }
  }
  const undo = send(Undo, ({ id }: { id: string }) => ({ id }))
  const states = (givenUp: object) => ({
    states: { Waiting: working, Paying: paying, GivenUp: { tags: 'end', ...givenUp } }
  })
  const definition = { handles: [Done, Failed], effects }
  const left = (events: string) => [
    `GivenUp leaves DoneEvent behind after ${events}: send Undo on the way, or ignore the event with a reason where nothing is left to undo`
  ]
  t.same(
    findings(states({ on: { '*': ignore('late') } }), definition),
    left('StartedEvent, DoneEvent, FailedEvent')
  )
  t.same(
    findings(states({ entry: undo, on: { '*': ignore('late') } }), definition),
    [],
    'the compensation is sent'
  )
  t.same(
    findings(
      states({
        entry: undo,
        on: { DoneEvent: { actions: assign({}) }, FailedEvent: ignore('late') }
      }),
      definition
    ),
    left('StartedEvent, after 1000, DoneEvent'),
    'a late effect is one too'
  )
  t.same(
    findings(
      states({ entry: undo, on: { DoneEvent: { actions: undo }, FailedEvent: ignore('late') } }),
      definition
    ),
    []
  )
  t.same(
    findings(states({ on: { '*': ignore('late') } }), {
      ...definition,
      effects: [{ doneBy: Done, undoneBy: Undo, clearedBy: [Failed] }]
    }),
    left('StartedEvent, DoneEvent, after 1000'),
    'an event that tells that nothing is left clears one path, not the other'
  )
  t.same(
    findings(states({ on: { '*': ignore('late') } }), { ...definition, pointOfNoReturn: 'Paying' }),
    [],
    'past the point of no return all stays done'
  )
})

t.test('a deferred effect counts when it is taken', async (t) => {
  const definition = { handles: [Done], effects: [{ doneBy: Done, undoneBy: Undo }] }
  const machine = (givenUp: object) => ({
    states: {
      Waiting: { on: { DoneEvent: defer() }, after: { 1000: 'GivenUp' } },
      GivenUp: { tags: 'end', on: givenUp }
    }
  })
  t.match(findings(machine({ DoneEvent: { actions: assign({}) } }), definition), [
    /^GivenUp leaves DoneEvent behind/
  ])
  t.same(
    findings(
      machine({ DoneEvent: { actions: send(Undo, ({ id }: { id: string }) => ({ id })) } }),
      definition
    ),
    []
  )
})

t.test('names that lead nowhere', async (t) => {
  t.same(
    findings(
      { states: { Waiting: { after: { 1000: 'End' } }, End: end() } },
      { effects: [{ doneBy: Done, undoneBy: Undo }], pointOfNoReturn: 'Nowhere' }
    ),
    [
      'effects name DoneEvent, which never reaches the machine: add it to handles',
      'pointOfNoReturn is Nowhere, which is no state'
    ]
  )
})

t.test('bodies that a guard looks into are given as samples', async (t) => {
  const Amount = event('AmountEvent', {
    owner: 'b',
    correlateBy: 'id',
    schema: Type.Object({ id: Type.String(), amount: Type.Integer({ minimum: 0 }) })
  })
  const machine = setup({
    // oxlint-disable-next-line typescript/no-unnecessary-type-assertion -- XState infers its types from the assertion
    types: {} as { events: { type: 'AmountEvent'; amount: number } },
    actions: sagaActions,
    guards: { isMuch: ({ event: { amount } }) => amount > 100 }
  }).createMachine({
    id: 'm',
    initial: 'Waiting',
    states: {
      Waiting: {
        on: { AmountEvent: [{ guard: 'isMuch', target: 'Rich' }, { target: 'Poor' }] },
        after: { 1000: 'Poor' }
      },
      Rich: { tags: 'end', on: { AmountEvent: ignore('late') } },
      Poor: { tags: 'end', on: { AmountEvent: ignore('late') } }
    }
  })
  const definition = defineSaga({ name: 'm', machine, startedBy: Started, handles: [Amount] })
  t.match(checkSaga(definition), [/^Rich cannot be reached/])
  t.same(checkSaga(definition, { samples: { AmountEvent: [{ amount: 1 }, { amount: 1000 }] } }), [])
})

t.test('a deadline that may pass without effect', async (t) => {
  const inside = (on: object, after: object = { 1000: 'End' }) => {
    const outer = { initial: 'Waiting', after, states: { Waiting: { on } } }
    return findings({ initial: 'Outer', states: { Outer: outer, End: end() } })
  }
  t.same(inside({ '*': ignore('nothing is expected') }), [], 'a wildcard takes no timer')
  t.same(inside({ 'xstate.after.1000.m.Outer': ignore('not yet') }), [
    'Outer.Waiting swallows after 1000 of Outer, so that it passes without effect: let it lead to another state',
    'Outer.Waiting waits without a deadline after StartedEvent, after 1000: its timer is spent then; let it leave the state that sets it, or enter that anew (reenter: true)',
    'End cannot be reached: no event leads there from the start; leave it out, or give samples whose bodies pass the guards',
    'No end can be reached from Outer.Waiting: give it a way to a state with the tag end'
  ])
  t.match(
    inside({ 'xstate.after.1000.m.Outer': { actions: assign({}) } }),
    [/^Outer\.Waiting waits without a deadline after StartedEvent, after 1000/],
    'handled by its name, and spent'
  )
  t.match(inside({}, { 1000: {} }), [/^Outer\.Waiting swallows after 1000 of Outer/])
  t.same(inside({}, { 1000: { target: 'End', guard: 'always' } }), [
    'Outer.Waiting decides after 1000 of Outer only when a guard lets it, and waits without a deadline when none does: give it a last alternative without a guard'
  ])
  t.same(
    inside({}, { 1000: { target: 'End', guard: 'always' }, 2000: 'End' }),
    [],
    'the other deadline is sure'
  )
  t.match(
    inside({}, { 1000: { actions: assign({}) } }),
    [/^Outer\.Waiting waits without a deadline after StartedEvent, after 1000/],
    'a reminder, and nothing after it'
  )
  t.same(inside({}, { 1000: { actions: assign({}) }, 2000: 'End' }), [])
  t.same(
    inside({}, { 1000: { target: 'Outer', reenter: true, actions: assign({}) }, 5000: 'End' }),
    []
  )
  t.match(
    findings({
      states: {
        Waiting: { after: { 1000: 'End' } },
        End: { tags: 'end', after: { 1000: 'Waiting' } }
      }
    }),
    [
      'End has the tag end and waits for after 1000 of End: let it wait in a state of its own, before the end'
    ]
  )
})

t.test('an event that is deferred where nothing leads on', async (t) => {
  const waiting = {
    on: { DoneEvent: defer(), FailedEvent: ignore('never mind') },
    after: { 1000: 'End' }
  }
  const machine = (on: object) => ({
    states: {
      Waiting: waiting,
      End: { tags: 'end', on },
      ...('FailedEvent' in on && { More: end() })
    }
  })
  t.same(
    findings(machine({ DoneEvent: defer(), '*': ignore('over') }), { handles: [Done, Failed] }),
    [
      'End defers DoneEvent for ever: nothing leads on from there; handle it, or ignore it with a reason'
    ]
  )
  t.same(
    findings(machine({ DoneEvent: defer(), FailedEvent: 'More' }), { handles: [Done, Failed] }),
    [],
    'something may'
  )
})

t.test(
  'a context that cannot be stored, a delay that is none, and what is thrown that is no error',
  async (t) => {
    const writing = (actions: object) =>
      findings(
        {
          states: {
            Waiting: { on: { DoneEvent: { actions } }, after: { 1000: 'End' } },
            End: end()
          }
        },
        { handles: [Done] }
      )
    class Money {
      amount = 1
    }
    const values: [unknown, string][] = [
      [new Date(0), 'a Date'],
      [new Map(), 'a Map'],
      [new Set([1]), 'a Set'],
      [new (class Prices extends Array<number> {})(), 'a Prices'],
      [NaN, 'NaN'],
      [-Infinity, '-Infinity'],
      [10n, 'a bigint'],
      [() => 1, 'a function'],
      [Symbol('x'), 'a symbol'],
      [new Money(), 'a Money'],
      ['\0', 'text with a NUL or half a surrogate pair']
    ]
    for (const [value, is] of values) {
      const found = writing(assign({ deep: () => ({ list: [1, value] }) }))
      const says = `context.deep.list[1] is ${is}; if its body is to blame, give a sample`
      t.same(found, [`Waiting fails on DoneEvent: ${says}`], is)
    }
    t.match(writing(assign({ list: () => [undefined] })), [/context\.list\[0\] is undefined/])
    const round: Record<string, unknown> = {}
    round.round = round
    t.match(writing(assign({ round: () => round })), [/context\.round\.round.*holds itself/])
    t.same(
      writing(assign({ gone: () => undefined, nothing: null, text: 'ü', list: [[{}]] })),
      [],
      'a field that is undefined reads the same'
    )
    t.match(
      findings({
        context: { at: new Date(0) },
        states: { Waiting: { after: { 1000: 'End' } }, End: end() }
      }),
      [
        /^The start fails on StartedEvent: context\.at is a Date/,
        /cannot be reached/,
        /cannot be reached/
      ]
    )
    const hostile = Object.assign(new Error('x'), { message: { code: 1 } })
    for (const thrown of [Object.create(null), hostile, Symbol('x'), undefined, { message: 1 }]) {
      const failing = () => {
        throw thrown
      }
      t.match(writing(assign(failing as never)), [/^Waiting fails on DoneEvent: /])
    }
  }
)

t.test('a machine that counts has no end of situations, and is checked all the same', async (t) => {
  const counting = {
    context: { id: 'x', count: 0 },
    states: {
      Waiting: {
        on: {
          DoneEvent: {
            actions: assign({
              count: ({ context }: { context: { count: number } }) => context.count + 1
            })
          }
        },
        after: { 1000: 'End' }
      },
      End: end()
    }
  }
  t.same(findings(counting, { handles: [Done] }), [])
})

function end() {
  return { tags: 'end', on: { '*': ignore('at the end') } }
}

function findings(config: object, definition: Partial<SagaDefinition> = {}): string[] {
  const machine = createMachine({
    id: 'm',
    initial: 'Waiting',
    context: { id: 'x' },
    ...config
  } as never).provide({
    actions: sagaActions,
    guards: { always: () => true }
  } as never) as AnyStateMachine
  return checkSaga(
    defineSaga({ name: 'm', machine, startedBy: Started, handles: [], ...definition })
  )
}
