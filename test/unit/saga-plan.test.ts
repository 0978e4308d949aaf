import fc from 'fast-check'
import assert from 'node:assert/strict'
import t from 'tap'
import {
  assign,
  createMachine,
  enqueueActions,
  raise,
  setup,
  type AnyMachineSnapshot,
  type AnyStateMachine
} from 'xstate'
import { CANCEL_ORDER, ORDER_EVENTS, orderMachine } from '../../src/saga/machine.ts'
import { statesOf } from '../../packages/sagabox/src/saga/define.ts'
import { moveByXState, type Move } from '../../packages/sagabox/src/saga/machine/move.ts'
import { planMove, planStart } from '../../packages/sagabox/src/saga/machine/plan.ts'
import { activeNodes } from '../../packages/sagabox/src/saga/machine/state.ts'
import { begin, step } from '../../packages/sagabox/src/saga/machine/step.ts'

const EVENTS = ['A', 'B', 'C']

interface Counted {
  n: number
  label: string
}

const counting = setup({
  // oxlint-disable-next-line typescript/no-unnecessary-type-assertion -- XState infers its types from the assertion
  types: {} as { context: Counted; input: Counted; events: { type: string; by?: number } },
  delays: { soon: 1000, later: ({ context }) => context.n * 10 },
  guards: {
    even: ({ context }) => context.n % 2 === 0,
    big: ({ context, event }, { over }: { over: number }) => context.n + (event.by ?? 0) > over
  },
  actions: {
    log(_, _params: { n: number; at: string }) {},
    plain() {},
    add: assign({ n: ({ context, event }) => context.n + (event.by ?? 1) }),
    rename: assign(({ context }, { at }: { at: string }) => ({ label: `${context.label}${at}` })),
    nothing: assign({})
  }
})

/**
 * A machine of nested states with transitions from anywhere to anywhere; what happens on the way is
 * logged with what is known then.
 */
function anyMachine(g: fc.GeneratorValue): AnyStateMachine {
  const chance = (percent: number) => g(fc.nat, { max: 99 }) < percent
  const pick = <T>(...all: readonly T[]) => all[g(fc.nat, { max: all.length - 1 })]!
  let states = 0
  const shape = (depth: number): Shape => ({
    id: `s${states++}`,
    inside:
      depth < 3 && (depth === 0 || chance(50))
        ? Array.from({ length: 1 + g(fc.nat, { max: 2 }) }, () => shape(depth + 1))
        : []
  })
  const root = shape(0)
  const log = (at: string) => ({
    type: 'log' as const,
    params: ({ context }: { context: Counted }) => ({ n: context.n, at })
  })
  const actions = (at: string) =>
    Array.from({ length: g(fc.nat, { max: 2 }) }, () =>
      pick<unknown>(
        log(at),
        'plain',
        'add',
        'nothing',
        { type: 'rename', params: { at } },
        assign({ label: at })
      )
    )
  const transition = (at: string) => ({
    ...(chance(80) && { target: `#s${g(fc.nat, { max: states - 1 })}` }),
    ...(chance(30) && { reenter: true }),
    ...(chance(30) && { guard: pick<unknown>('even', { type: 'big', params: { over: 3 } }) }),
    actions: actions(at)
  })
  const config = ({ id, inside }: Shape): object => ({
    id,
    entry: actions(`in ${id}`),
    exit: actions(`out ${id}`),
    on: Object.fromEntries(
      [...EVENTS, '*']
        .filter(() => chance(40))
        .map((event) => [
          event,
          chance(30) ? [transition(`${event} 1`), transition(`${event} 2`)] : transition(event)
        ])
    ),
    ...(chance(20) && { after: { [pick('soon', 'later', '500')]: transition('after') } }),
    ...(inside.length > 0 && {
      initial: chance(30)
        ? { target: pick(...inside).id, actions: actions(`first in ${id}`) }
        : pick(...inside).id,
      states: Object.fromEntries(inside.map((inner) => [inner.id, config(inner)]))
    })
  })
  return counting.createMachine({
    ...config(root),
    context: ({ input }: { input: Counted }) => ({ ...input })
  } as never) as unknown as AnyStateMachine
}

interface Shape {
  id: string
  inside: Shape[]
}

interface Sent {
  type: string
  [field: string]: unknown
}

function outcome(before: AnyMachineSnapshot | undefined, { snapshot, actions }: Move) {
  const { value, context, status, tags, historyValue, children } = snapshot
  return {
    value,
    context: context as unknown,
    status,
    tags,
    historyValue,
    children,
    unchanged: snapshot === before,
    nodes: activeNodes(snapshot)
      .map(({ id }) => id)
      .toSorted(),
    actions: actions.map(({ type, params }) => ({ type, params }))
  }
}

/**
 * Moves one instance by plans and one by XState, and holds one to the other.
 * @returns how many moves a plan made
 */
function compare(machine: AnyStateMachine, input: unknown, events: readonly Sent[]): number {
  let theirs = moveByXState(machine, (scope) => machine.getInitialSnapshot(scope, input))
  const first = planStart(machine, input)
  if (first) assert.deepStrictEqual(outcome(undefined, first), outcome(undefined, theirs), 'start')
  let ours = first ?? theirs
  let moves = first ? 1 : 0
  for (const event of events) {
    const [mine, other] = [ours.snapshot, theirs.snapshot]
    theirs = moveByXState(machine, (scope) => machine.transition(other, event, scope))
    const next = planMove(machine, mine, event)
    if (next) assert.deepStrictEqual(outcome(mine, next), outcome(other, theirs), event.type)
    if (next) moves++
    ours = next ?? theirs
  }
  return moves
}

t.test('a plan does what XState does, in machines of every shape', (t) => {
  let [moves, planned] = [0, 0]
  fc.assert(
    fc.property(
      fc.gen(),
      fc.array(fc.record({ type: fc.nat({ max: 5 }), by: fc.nat({ max: 3 }) }), {
        minLength: 4,
        maxLength: 12
      }),
      (g, events) => {
        const machine = anyMachine(g)
        const timers = statesOf(machine.root).flatMap(({ after }) =>
          after.map(({ eventType }) => eventType)
        )
        const names = [...EVENTS, ...timers, 'D', 'E']
        moves += events.length + 1
        planned += compare(
          machine,
          { n: 1, label: '' },
          events.map(({ type, by }) => ({ type: names[type % names.length]!, by }))
        )
      }
    ),
    { numRuns: 1500, seed: Number(process.env.PLAN_SEED ?? 1) }
  )
  t.ok(
    planned > moves * 0.8,
    `${planned} of ${moves} moves were planned; only where the whole machine is left or entered anew XState is asked`
  )
  t.end()
})

t.test('what a plan cannot say is left to XState', (t) => {
  const unplanned: Record<string, AnyStateMachine> = {
    always: createMachine({
      initial: 'a',
      states: { a: { on: { A: 'b' } }, b: { always: 'c' }, c: {} }
    }),
    final: createMachine({
      initial: 'a',
      states: {
        a: { initial: 'x', states: { x: { on: { A: 'y' } }, y: { type: 'final' } }, onDone: 'b' },
        b: {}
      }
    }),
    history: createMachine({
      initial: 'a',
      states: {
        a: { initial: 'x', states: { x: {}, h: { type: 'history' } }, on: { A: 'b' } },
        b: { on: { B: 'a.h' } }
      }
    }),
    parallel: createMachine({ type: 'parallel', states: { a: {}, b: {} } }),
    'an event raised on entry': createMachine({
      initial: 'a',
      entry: raise({ type: 'A' }),
      states: { a: { on: { A: 'b' } }, b: {} }
    }),
    'queued actions': createMachine({
      initial: 'a',
      entry: enqueueActions(({ enqueue }) => enqueue('x')),
      states: { a: {} }
    })
  }
  for (const [what, machine] of Object.entries(unplanned))
    t.equal(planStart(machine, {}), undefined, what)

  const raising = createMachine({
    initial: 'a',
    states: { a: { on: { A: { actions: raise({ type: 'B' }) }, B: 'b' } }, b: {} }
  })
  const { snapshot } = begin(raising, {})
  t.equal(planMove(raising, snapshot, { type: 'A' }), undefined, 'an event raised on the way')
  t.match(step(raising, snapshot, { type: 'A' }), { from: 'a', to: 'b' })
  t.match(planMove(raising, snapshot, { type: 'B' }), { snapshot: { value: 'b' } })
  t.end()
})

t.test('the order machine is all plans', (t) => {
  const machine = orderMachine(30)
  const events: Sent[] = [
    ...ORDER_EVENTS.map(({ name }) => ({
      type: name,
      total: 5,
      amount: 7,
      currency: 'EUR',
      reason: 'X'
    })),
    ...[
      CANCEL_ORDER,
      'Nonsense',
      ...statesOf(machine.root).flatMap(({ after }) => after.map(({ eventType }) => eventType))
    ].map((type) => ({ type }))
  ]
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...events), { maxLength: 12 }), (sent) =>
      assert.equal(compare(machine, { orderId: 'o', customerId: 'ada' }, sent), sent.length + 1)
    ),
    { numRuns: 1000, seed: 1 }
  )
  t.end()
})

t.test('a machine that fails as it starts says why', (t) => {
  const context = () => {
    throw new Error('no such customer')
  }
  t.throws(
    () => begin(createMachine({ context, initial: 'a', states: { a: {} } }), {}),
    /no such customer/
  )
  t.throws(
    () =>
      begin(createMachine({ context, initial: 'a', states: { a: { always: 'b' }, b: {} } }), {}),
    /no such customer/
  )
  const spawning = createMachine({
    context: ({ spawn }) => ({ child: spawn('x') }),
    initial: 'a',
    states: { a: {} }
  })
  t.throws(() => begin(spawning, {}), /starts no actors/)
  t.end()
})
