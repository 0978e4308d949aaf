import fc from 'fast-check'
import assert from 'node:assert/strict'
import Type from 'typebox'
import t from 'tap'
import { assign, createMachine, raise, type AnyMachineSnapshot, type AnyStateMachine } from 'xstate'
import { event, message } from '../../src/messaging/message/message.ts'
import { checkSaga } from '../../src/saga/inspect/check.ts'
import { ignore, sagaActions, statesOf, type SagaDefinition } from '../../src/saga/define.ts'
import { defineSaga } from '../../src/saga/steps/define-saga.ts'
import { acceptedEvents } from '../../src/saga/machine/states.ts'
import { moveByXState } from '../../src/saga/machine/move.ts'
import { planMove } from '../../src/saga/machine/plan.ts'
import { pathOf } from '../../src/saga/machine/state.ts'
import { begin, step } from '../../src/saga/machine/step.ts'
import { tell } from '../../src/testing/story.ts'

const schema = Type.Object({ id: Type.String({ format: 'uuid' }) })
const Started = event('StartedEvent', { owner: 'a', correlateBy: 'id', schema })
const Done = event('DoneEvent', { owner: 'b', correlateBy: 'id', schema })

const ID = '0190f2a0-0000-7000-8000-000000000001'

t.test('a state that ignores everything still ends by the deadline around it', (t) => {
  const saga = define({
    initial: 'Outer',
    states: {
      Outer: {
        initial: 'Waiting',
        after: { 1000: 'Late' },
        states: { Waiting: { on: { '*': ignore('nothing is expected') } } }
      },
      Late: { tags: 'end', on: { '*': ignore('late') } }
    }
  })
  const waiting = tell(saga)
    .given(message(Started, { id: ID }))
    .when(message(Done, { id: ID }))
    .thenIgnored('nothing is expected')
  waiting.advance('1s').then('Late')
  t.same(checkSaga(saga), [])
  t.same(acceptedEvents(saga, 'Outer.Waiting'), ['after 1000'])
  t.end()
})

t.test('a wildcard takes no event that the machine raises itself, at once or later', (t) => {
  const raising = define(
    {
      initial: 'Outer',
      states: {
        Outer: {
          initial: 'First',
          on: { remind: { actions: assign({ reminded: true }) }, again: '.Second' },
          states: {
            First: {
              entry: [
                raise({ type: 'again' }),
                raise({ type: 'remind' }, { id: 'reminder', delay: 1000 })
              ],
              on: { '*': ignore('first') }
            },
            Second: { on: { '*': ignore('second'), 'again.*': 'First' } }
          }
        }
      }
    },
    { asks: ['again.x'] }
  )
  const first = begin(raising.machine, { id: ID })
  t.match(first, { to: 'Outer.Second', timersStarted: [{ id: 'reminder', event: 'remind' }] })
  t.match(step(raising.machine, first.snapshot, { type: 'remind' }), {
    decision: 'handled',
    snapshot: { context: { reminded: true } }
  })
  t.match(
    step(raising.machine, first.snapshot, { type: 'again.x' }),
    { decision: 'handled', to: 'Outer.Second' },
    'the longest wildcard first, which leads to what raises again'
  )
  const ending = define({
    initial: 'Outer',
    states: {
      Outer: {
        initial: 'a',
        onDone: 'After',
        on: { '*': ignore('outer') },
        states: { a: { on: { DoneEvent: 'b', '*': ignore('a') } }, b: { type: 'final' } }
      },
      After: {}
    }
  })
  t.match(
    step(ending.machine, begin(ending.machine, { id: ID }).snapshot, { type: 'DoneEvent' }),
    { to: 'After' },
    'nor the end of the states inside'
  )
  t.end()
})

t.test(
  'a definition is refused for a wildcard that stands for nothing, and for a delay that is none',
  (t) => {
    const waiting = (on: object) => () =>
      define({
        initial: 'Waiting',
        states: { Waiting: { on, after: { 1000: 'End' } }, End: { tags: 'end' } }
      })
    t.throws(
      waiting({ 'xstate.*': ignore('x') }),
      /Waiting decides xstate\.\*, which stands for none of the events that the saga takes \(DoneEvent\); a wildcard takes no timer/
    )
    t.throws(
      waiting({ 'order.*': ignore('x') }),
      /Waiting decides order\.\*, which stands for none/
    )
    t.doesNotThrow(waiting({ '*': ignore('x') }))
    const delayed =
      (delay: string | number, delays: object = {}) =>
      () =>
        define(
          {
            initial: 'Waiting',
            states: { Waiting: { after: { [delay]: 'End' } }, End: { tags: 'end' } }
          },
          {},
          delays
        )
    t.throws(
      delayed('soon'),
      /state m\.Waiting has an after soon, which is neither milliseconds, at most 100 years of them nor a name under delays/
    )
    for (const ms of [-1, Infinity, 1e13])
      t.throws(delayed(ms), /expected 0 or more milliseconds/, String(ms))
    for (const ms of [-1, NaN, Infinity, undefined, '1000', new Date(0)])
      t.throws(
        delayed('soon', { soon: ms }),
        /after soon, which is .*; expected 0 or more/,
        String(ms)
      )
    for (const ms of [0, 2 ** 31, 1e12]) t.doesNotThrow(delayed(ms), String(ms))
    for (const ms of [NaN, Infinity, undefined, '1000', null, new Date(0), 1e13]) {
      const { machine } = delayed('soon', { soon: () => ms })()
      t.throws(
        () => begin(machine, { id: ID }),
        /The delay of xstate\.after\.soon\.m\.Waiting is .*; expected milliseconds/,
        `${String(ms)} is not taken for no delay`
      )
    }
    t.match(
      begin(delayed('soon', { soon: () => -5 })().machine, { id: ID }),
      { timersStarted: [{ delayMs: -5 }] },
      'what is past is due at once'
    )
    t.end()
  }
)

const EVENTS = ['A', 'B', 'C.x', 'C.y']

/**
 * A machine of nested states with wildcards and deadlines everywhere; its context tells which
 * transitions were taken.
 */
function anyConfig(g: fc.GeneratorValue): Config {
  const chance = (percent: number) => g(fc.nat, { max: 99 }) < percent
  let states = 0
  const shape = (depth: number): Shape => ({
    id: `s${states++}`,
    inside:
      depth < 3 && (depth === 0 || chance(50))
        ? Array.from({ length: 1 + g(fc.nat, { max: 2 }) }, () => shape(depth + 1))
        : []
  })
  const root = shape(0)
  const transition = (at: string) => {
    if (chance(10)) return undefined
    return {
      ...(chance(60) && { target: `#s${g(fc.nat, { max: states - 1 })}` }),
      ...(chance(30) && { reenter: true }),
      ...(chance(30) && {
        guard: ({ context }: { context: { trail: string } }) => context.trail.length % 2 === 0
      }),
      actions: assign({
        trail: ({ context }: { context: { trail: string } }) => `${context.trail}${at};`
      })
    }
  }
  const config = ({ id, inside }: Shape): Config => ({
    id,
    on: Object.fromEntries(
      [...EVENTS, '*', 'C.*']
        .filter(() => chance(40))
        .map((name) => [
          name,
          chance(30)
            ? [transition(`${id} ${name} 1`), transition(`${id} ${name} 2`)]
            : transition(`${id} ${name}`)
        ])
    ),
    ...(chance(50) && { after: { [1000]: transition(`${id} after`) ?? {} } }),
    ...(inside.length > 0 && {
      initial: inside[0]!.id,
      states: Object.fromEntries(inside.map((inner) => [inner.id, config(inner)]))
    })
  })
  return { ...config(root), context: { trail: '' } }
}

interface Shape {
  id: string
  inside: Shape[]
}

interface Config {
  id: string
  on: Record<string, unknown>
  states?: Record<string, Config>
  initial?: string
  after?: object
  context?: object
}

function withoutWildcards({ on, states = {}, ...config }: Config): Config {
  const named = Object.entries(on).filter(([name]) => !name.endsWith('*'))
  const inner = Object.entries(states).map(
    ([key, state]) => [key, withoutWildcards(state)] as const
  )
  return { ...config, on: Object.fromEntries(named), states: Object.fromEntries(inner) }
}

t.test(
  'events are decided as XState decides them, and timers as if there were no wildcards: planned or not',
  (t) => {
    let [timers, taken] = [0, 0]
    fc.assert(
      fc.property(
        fc.gen(),
        fc.array(fc.nat({ max: 9 }), { minLength: 4, maxLength: 12 }),
        (g, picks) => {
          const config = anyConfig(g)
          const [raw, plain] = [config, withoutWildcards(config)].map(
            (one) => createMachine(one as never) as AnyStateMachine
          )
          const { machine } = defineSaga({
            name: 'm',
            machine: raw!,
            startedBy: Started,
            handles: [],
            asks: EVENTS
          })
          const fires = statesOf(machine.root).flatMap(({ after }) =>
            after.map(({ eventType }) => eventType)
          )
          const names = [...EVENTS, ...fires]
          let snapshot = moveByXState(machine, (scope) =>
            machine.getInitialSnapshot(scope, {})
          ).snapshot
          for (const pick of picks) {
            const type = names[pick % names.length]!
            const isTimer = fires.includes(type)
            // The one machine that says what is right: as it was written for events, without its
            // wildcards for timers.
            const right = outcome(move(isTimer ? plain! : raw!, snapshot, type))
            const moved = move(machine, snapshot, type)
            assert.deepStrictEqual(outcome(moved), right, type)
            const planned = planMove(machine, snapshot, { type })
            if (planned)
              assert.deepStrictEqual(outcome(planned.snapshot), right, `${type}, planned`)
            if (isTimer) timers++
            if (isTimer && outcome(moved).context.trail !== outcome(snapshot).context.trail) taken++
            snapshot = moved
          }
        }
      ),
      { numRuns: 1000, seed: Number(process.env.WILDCARD_SEED ?? 1) }
    )
    t.ok(taken > 500 && taken < timers, `${taken} of ${timers} timers were taken`)
    t.end()
  }
)

function move(
  machine: AnyStateMachine,
  { value, context }: AnyMachineSnapshot,
  type: string
): AnyMachineSnapshot {
  const before = machine.resolveState({ value, context: context as unknown })
  const { snapshot } = moveByXState(machine, (scope) => machine.transition(before, { type }, scope))
  return snapshot
}

function outcome({ value, context }: AnyMachineSnapshot) {
  return { state: pathOf(value), context: context as { trail: string } }
}

function define(
  config: object,
  definition: Partial<SagaDefinition> = {},
  delays: object = {}
): SagaDefinition {
  const machine = createMachine({ id: 'm', context: { id: 'x' }, ...config } as never).provide({
    actions: sagaActions,
    delays
  } as never) as AnyStateMachine
  return defineSaga({ name: 'm', machine, startedBy: Started, handles: [Done], ...definition })
}
