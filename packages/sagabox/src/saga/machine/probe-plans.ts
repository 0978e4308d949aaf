import assert from 'node:assert/strict'
import { assign, createMachine, type AnyMachineSnapshot, type AnyStateMachine } from 'xstate'
import { moveByXState, type Move } from './move.ts'
import { planMove, planStart } from './plan.ts'
import { activeNodes } from './state.ts'

const MACHINE = probeMachine()
/** Down, within, up, at rest, to the same state and anew, into the first of the states inside. */
const EVENTS = ['IN', 'SIDE', 'STAY', 'SELF', 'ANEW', 'NONSENSE', 'TOP', 'IN', 'OUT']

/**
 * Holds plans to XState's own answers on a machine with what plans are made of: nested states,
 * actions of leaving and entering, assignments, timers. Takes 20 ms.
 * @throws what is not as expected
 */
export function probePlans(): void {
  let theirs = moveByXState(MACHINE, (scope) => MACHINE.getInitialSnapshot(scope, {}))
  let ours = planStart(MACHINE, {})
  assert.deepEqual(outcome(ours), outcome(theirs), 'a plan starts a machine otherwise')
  for (const type of EVENTS) {
    const { snapshot } = theirs
    theirs = moveByXState(MACHINE, (scope) => MACHINE.transition(snapshot, { type }, scope))
    ours = planMove(MACHINE, ours!.snapshot, { type })
    assert.deepEqual(outcome(ours), outcome(theirs), `a plan does otherwise at ${type}`)
  }
}

function outcome(move: Move | undefined): unknown {
  if (!move) return 'no plan'
  const { value, context, status, tags } = move.snapshot
  return {
    value,
    context: context as unknown,
    status,
    tags: [...tags],
    nodes: idsOf(move.snapshot),
    actions: move.actions.map(({ type, params }) => ({ type, params }))
  }
}

function idsOf(snapshot: AnyMachineSnapshot): string[] {
  return activeNodes(snapshot)
    .map(({ id }) => id)
    .toSorted()
}

function probeMachine(): AnyStateMachine {
  const log = (at: string) => ({
    type: 'log',
    params: ({ context }: { context: { n: number } }) => ({ n: context.n, at })
  })
  const add = assign({ n: ({ context }: { context: { n: number } }) => context.n + 1 })
  const logged = (name: string) => ({ entry: [log(`in ${name}`), add], exit: [log(`out ${name}`)] })
  return createMachine({
    context: { n: 0 },
    initial: 'a',
    states: {
      a: { id: 'a', ...logged('a'), on: { IN: { target: 'b.y', actions: log('IN') } } },
      b: {
        ...logged('b'),
        tags: 'inside',
        after: { 1000: 'a' },
        initial: 'x',
        on: {
          SELF: { target: '.x', actions: add },
          ANEW: { target: 'b', reenter: true },
          OUT: 'a'
        },
        states: {
          x: {
            ...logged('x'),
            on: { TOP: '#a', STAY: { actions: [add, log('STAY')] } },
            after: { 500: 'y' }
          },
          y: { ...logged('y'), on: { SIDE: 'x' } }
        }
      }
    }
  } as never)
}
