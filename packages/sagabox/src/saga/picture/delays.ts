import type { AnyStateMachine, AnyStateNode } from 'xstate'

/** How long the timer of a transition waits, ms; null: it is none, or its delay is computed. */
export function delayMsOf(
  machine: AnyStateMachine,
  node: AnyStateNode,
  eventType: string
): number | null {
  const found = node.after.find((one) => one.eventType === eventType)
  if (!found) return null
  const { delay } = found
  const known: unknown =
    typeof delay === 'string' ? (machine.implementations.delays[delay] ?? Number(delay)) : delay
  return typeof known === 'number' && Number.isFinite(known) ? known : null
}
