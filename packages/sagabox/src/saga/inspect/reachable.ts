import type { AnyStateMachine, AnyStateNode } from 'xstate'
import { statesOf, type SagaDefinition } from '../define.ts'
import { decisionBy } from '../machine/decision.ts'
import { restore } from '../machine/state.ts'
import { pathOfNode } from '../machine/states.ts'
import { step } from '../machine/step.ts'
import type { SagaRow } from '../store/rows.ts'

/** States that an instance can still come to, by whatever happens, in the order of the machine. */
export function reachableFrom(machine: AnyStateMachine, state: string): string[] {
  const nodes = statesOf(machine.root)
  const found = new Set<AnyStateNode>()
  const next = nodes.filter((node) => pathOfNode(node) === state)
  for (let leaf = next.pop(); leaf; leaf = next.pop())
    for (let node: AnyStateNode | undefined = leaf; node; node = node.parent)
      for (const transition of [...[...node.transitions.values()].flat(), ...(node.always ?? [])]) {
        if (decisionBy(transition) !== 'handled' || !transition.target?.[0]) continue
        const to = restIn(transition.target[0] as AnyStateNode)
        if (found.has(to)) continue
        found.add(to)
        next.push(to)
      }
  return nodes.filter((node) => found.has(node)).map(pathOfNode)
}

/** Where an instance rests that enters a state. */
export function restIn(node: AnyStateNode): AnyStateNode {
  const inner = node.initial?.target[0] as AnyStateNode | undefined
  return inner === undefined ? node : restIn(inner)
}

/** The state that a timer leads an instance to; its own when that cannot be told. */
export function targetOf(
  { machine }: SagaDefinition,
  { state, value, context }: SagaRow,
  event: string
): string {
  try {
    return step(machine, restore(machine, value, context), { type: event }).to
  } catch {
    return state
  }
}
