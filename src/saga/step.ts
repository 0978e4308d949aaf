import { initialTransition, transition, type AnyMachineSnapshot, type AnyStateMachine, type StateValue } from 'xstate'
import type { Send } from './define.ts'

export interface TimerStart {
  id: string
  /** Type of the event that the timer brings. */
  event: string
  delayMs: number
}

/** What one event did to one instance: everything the host has to store or send. */
export interface Step {
  snapshot: AnyMachineSnapshot
  from: string | undefined
  to: string
  sends: Send[]
  timersStarted: TimerStart[]
  timersCancelled: string[]
}

export interface SagaEvent {
  type: string
  [field: string]: unknown
}

/** The first step of an instance. */
export function begin(machine: AnyStateMachine, input: unknown): Step {
  const [snapshot, actions] = initialTransition(machine, input)
  return toStep(undefined, snapshot, actions)
}

/** Applies one event. An event that the state does not take changes nothing and is still a step. */
export function step(machine: AnyStateMachine, before: AnyMachineSnapshot, event: SagaEvent): Step {
  const [snapshot, actions] = transition(machine, before, event)
  return toStep(pathOf(before.value), snapshot, actions)
}

/** Rebuilds the snapshot that was stored as plain data. */
export function restore(machine: AnyStateMachine, value: unknown, context: unknown): AnyMachineSnapshot {
  return machine.resolveState({ value: value as StateValue, context })
}

/** `{ Suspend: 'takingPayment' }` -> `Suspend.takingPayment` */
export function pathOf(value: StateValue): string {
  if (typeof value === 'string') return value
  return Object.entries(value)
    .map(([key, child]) => (child === undefined || (typeof child === 'object' && Object.keys(child).length === 0) ? key : `${key}.${pathOf(child)}`))
    .join(',')
}

/** `Suspend.takingPayment` -> `Suspend` */
export function statusOf(path: string): string {
  return path.split('.', 1)[0]!
}

interface ActionData {
  type: string
  params?: unknown
}

function toStep(from: string | undefined, snapshot: AnyMachineSnapshot, actions: readonly ActionData[]): Step {
  const result: Step = { snapshot, from, to: pathOf(snapshot.value), sends: [], timersStarted: [], timersCancelled: [] }
  for (const { type, params } of actions) {
    if (type === 'send') result.sends.push(params as Send)
    else if (type === 'xstate.raise') {
      const { id, event, delay } = params as { id: string; event: { type: string }; delay?: number }
      // Without a delay it has been handled within the step.
      if (delay !== undefined) result.timersStarted.push({ id, event: event.type, delayMs: delay })
    } else if (type === 'xstate.cancel') {
      const { sendId } = params as { sendId: string }
      result.timersStarted = result.timersStarted.filter(({ id }) => id !== sendId)
      result.timersCancelled.push(sendId)
    }
    // Anything else would be lost silently: the machine is data, and only what is data can be stored.
    else throw new Error(`Action ${type} has no meaning in a saga: send a message, assign to the context or use after`)
  }
  return result
}
