import { contractSentBy, statesOf, type SagaDefinition } from '../define.ts'
import type { Contract } from '../../messaging/message/message.ts'

/**
 * What a saga's machines send, of all versions: read from the actions of their states and
 * transitions.
 */
export function sendsOf({ machine, previous = {} }: SagaDefinition): Contract[] {
  const nodes = [machine, ...Object.values(previous)].flatMap(({ root }) => statesOf(root))
  const actions = nodes.flatMap((node) => [
    ...node.entry,
    ...node.exit,
    ...[...node.transitions.values()].flat().flatMap((transition) => transition.actions),
    ...(node.always ?? []).flatMap((transition) => transition.actions),
    ...node.initial.actions
  ])
  const contracts = actions.map(contractSentBy).filter((contract) => contract !== undefined)
  return [...new Set(contracts)]
}
