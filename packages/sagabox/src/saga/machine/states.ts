// What can be read of a machine's states without running it.
import type { AnyStateNode } from 'xstate'
import { decisionOf } from './decision.ts'
import { END, statesOf, type SagaDefinition } from '../define.ts'
import { EVERY } from '../every.ts'

/** Paths of the states in which an instance can rest. */
export function restingStates({ machine }: SagaDefinition): string[] {
  return statesOf(machine.root)
    .slice(1)
    .filter((node) => Object.keys(node.states).length === 0)
    .map(pathOfNode)
}

/**
 * The events that a state takes, alone or through a state around it, and does not just ignore or
 * keep; timers by their short name.
 */
export function acceptedEvents({ machine }: SagaDefinition, state: string): string[] {
  const leaf = statesOf(machine.root).find((node) => pathOfNode(node) === state)
  const events = new Set<string>()
  for (let node = leaf; node; node = node.parent)
    for (const event of node.ownEvents) events.add(event)
  return [
    ...new Set(
      [...events]
        .filter((event) => ['handled', 'guarded'].includes(decisionOf(leaf!, event)))
        .map(eventName)
    )
  ]
}

/** The events of the timers that a state sets, alone or through a state around it. */
export function timersIn({ machine }: Pick<SagaDefinition, 'machine'>, state: string): string[] {
  const events: string[] = []
  const leaf = statesOf(machine.root).find((node) => pathOfNode(node) === state)
  for (let node = leaf; node; node = node.parent) {
    for (const { eventType } of node.after) events.push(eventType)
  }
  return [...new Set(events)]
}

/** Paths of the states in which an instance waits for nothing. */
export function endsOf({ machine }: SagaDefinition): string[] {
  return statesOf(machine.root)
    .filter((node) => Object.keys(node.states).length === 0 && hasEndTag(node))
    .map(pathOfNode)
}

/**
 * Paths of the states in which an instance always has a timer: when it fires, the state that set it
 * is left, or entered anew, or the timer starts again.
 */
export function timedStatesOf({ machine }: SagaDefinition): string[] {
  return statesOf(machine.root)
    .filter((node) => Object.keys(node.states).length === 0 && isTimed(node))
    .map(pathOfNode)
}

function isTimed(node: AnyStateNode): boolean {
  const delays = new Set(node.after.map(({ eventType }) => eventType))
  const leaves = [...delays].some((delay) => {
    const alternatives = node.after.filter(({ eventType }) => eventType === delay)
    if (isPeriodic(delay)) return true
    return (
      alternatives.at(-1)!.guard === undefined &&
      alternatives.every(
        ({ target, reenter }) => reenter || (target !== undefined && !isWithin(target[0], node))
      )
    )
  })
  return leaves || (node.parent !== undefined && isTimed(node.parent))
}

function isWithin(node: AnyStateNode | undefined, outer: AnyStateNode): boolean {
  return node !== undefined && (node === outer || isWithin(node.parent, outer))
}

function hasEndTag(node: AnyStateNode): boolean {
  return node.tags.includes(END) || (node.parent !== undefined && hasEndTag(node.parent))
}

const TIMER = new RegExp(`^xstate\\.after\\.(?<delay>(?:${EVERY})?(?:\\d+\\.\\d+[a-z]+|[^.]+))\\.`)

/** `xstate.after.deadline.order.Suspend` -> `after deadline`, `xstate.after.every 1d.…` -> `every 1d` */
export function eventName(event: string): string {
  const delay = TIMER.exec(event)?.groups?.['delay']
  if (delay === undefined) return event
  return isPeriodic(event) ? delay : `after ${delay}`
}

/** Whether it is the event of a timer that comes again and again, at an even pace. */
export function isPeriodic(event: string): boolean {
  return event.startsWith(`xstate.after.${EVERY}`)
}

/** A state's path from the top: `Failed.releasingStock`. */
export function pathOfNode(node: AnyStateNode): string {
  return node.path.join('.')
}
