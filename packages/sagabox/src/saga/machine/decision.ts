import type { AnyStateNode } from 'xstate'
import type { Decision } from './step.ts'

/**
 * What a state does with an event, looked up as XState does: from the inside out, up to the first
 * alternative without a guard. `handled` when any alternative handles it; `guarded` when every one
 * has a guard, so that none may apply.
 */
export function decisionOf(leaf: AnyStateNode, event: string): Decision | 'guarded' {
  const found: Decision[] = []
  for (let node: AnyStateNode | undefined = leaf; node; node = node.parent) {
    for (const transition of transitionsFor(node, event)) {
      found.push(decisionBy(transition))
      if (transition.guard === undefined)
        return found.find((decision) => decision === 'handled') ?? found.at(-1)!
    }
  }
  return found.length > 0 ? 'guarded' : 'undecided'
}

/** What a transition does when it is taken. */
export function decisionBy({ target, actions }: Transition): Decision {
  const types = actions.map((action) => (action as { type?: string }).type)
  if (types.includes('ignore')) return 'ignored'
  if (types.includes('defer')) return 'deferred'
  return target === undefined && types.length === 0 ? 'undecided' : 'handled'
}

type Transition = Pick<
  AnyStateNode['transitions'] extends Map<string, (infer T)[]> ? T : never,
  'target' | 'actions' | 'guard'
>

function transitionsFor(node: AnyStateNode, event: string): Transition[] {
  return [...(node.transitions.get(event) ?? []), ...(node.transitions.get('*') ?? [])]
}
