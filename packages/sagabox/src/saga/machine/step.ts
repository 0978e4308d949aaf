import type { AnyMachineSnapshot, AnyStateMachine } from 'xstate'
import { END, type Send, type send } from '../define.ts'
import { EXPECTED_DELAY, isDelay } from '../delay.ts'
import { moveByXState, type ActionData, type Move } from './move.ts'
import { planMove, planStart } from './plan.ts'
import { probePlans } from './probe-plans.ts'
import { PLANS } from '../../quick-ways.ts'
import { activeNodes, pathOf } from './state.ts'

export interface TimerStart {
  id: string
  /** Type of the event that the timer brings. */
  event: string
  delayMs: number
}

/** `undecided`: the state says nothing about the event; it changes nothing. */
export type Decision = 'handled' | 'ignored' | 'deferred' | 'undecided'

/** What one event did to one instance: everything the host has to store or send. */
export interface Step {
  decision: Decision
  /** Why it was ignored. */
  reason?: string
  snapshot: AnyMachineSnapshot
  from: string | undefined
  to: string
  sends: Send[]
  timersStarted: TimerStart[]
  timersCancelled: string[]
}

/** What reaches a machine: an event's name, and the fields of its body. */
export interface SagaEvent {
  type: string
  [field: string]: unknown
}

/** The quick way; XState itself is the plain one. */
function arePlanned(): boolean {
  return PLANS.probe(probePlans).isOpen
}

/** The first step of an instance. */
export function begin(machine: AnyStateMachine, input: unknown): Step {
  const move =
    (arePlanned() ? planStart(machine, input) : undefined) ??
    moveByXState(machine, (scope) => machine.getInitialSnapshot(scope, input))
  // XState does not throw what fails here.
  if (move.snapshot.status === 'error') throw move.snapshot.error
  return toStep(undefined, move)
}

/** Applies one event. An event that the state does not take changes nothing and is still a step. */
export function step(machine: AnyStateMachine, before: AnyMachineSnapshot, event: SagaEvent): Step {
  const result = toStep(
    pathOf(before.value),
    (arePlanned() ? planMove(machine, before, event) : undefined) ??
      moveByXState(machine, (scope) => machine.transition(before, event, scope))
  )
  // XState gives back the very snapshot when no transition was enabled. So does a state that is
  // entered anew: its timers start again.
  const didNothing =
    result.sends.length === 0 &&
    result.timersStarted.length === 0 &&
    result.timersCancelled.length === 0
  if (result.snapshot === before && result.decision === 'handled' && didNothing)
    result.decision = 'undecided'
  return result
}

/** Sends the commands once more with which the state was entered; nothing else changes. */
export function resend(snapshot: AnyMachineSnapshot): Step {
  const state = pathOf(snapshot.value)
  return {
    decision: 'handled',
    snapshot,
    from: state,
    to: state,
    sends: awaitedCommands(snapshot),
    timersStarted: [],
    timersCancelled: []
  }
}

/** Whether the instance waits for nothing. */
export function isEnd(snapshot: AnyMachineSnapshot): boolean {
  return snapshot.hasTag(END)
}

/**
 * The commands that the active states send as they are entered: their answers are what the instance
 * waits for.
 */
export function awaitedCommands(snapshot: AnyMachineSnapshot): Send[] {
  return activeNodes(snapshot)
    .flatMap((node) => node.entry as readonly unknown[])
    .filter(isSend)
    .map(({ params }) => params({ context: snapshot.context }))
    .filter((sent) => sent !== undefined)
    .filter(({ contract }) => contract.kind === 'command')
}

function isSend(action: unknown): action is ReturnType<typeof send> {
  return typeof action === 'object' && (action as ActionData).type === 'send'
}

function toStep(from: string | undefined, { snapshot, actions }: Move): Step {
  const result: Step = {
    decision: 'handled',
    snapshot,
    from,
    to: pathOf(snapshot.value),
    sends: [],
    timersStarted: [],
    timersCancelled: []
  }
  for (const { type, params } of actions) {
    if (type === 'send') {
      if (params !== undefined) result.sends.push(params as Send)
    } else if (type === 'xstate.raise') {
      const { id, event, delay } = params as {
        id: string
        event: { type: string }
        delay?: unknown
      }
      // A delay that is none would fire as it is set. An event without a delay has been handled
      // within the step.
      if (!isDelay(delay) && (delay !== undefined || event.type.startsWith('xstate.after.')))
        throw new Error(
          `The delay of ${event.type} is ${String(delay)}; expected ${EXPECTED_DELAY}`
        )
      if (delay !== undefined) result.timersStarted.push({ id, event: event.type, delayMs: delay })
    } else if (type === 'xstate.cancel') {
      const { sendId } = params as { sendId: string }
      result.timersStarted = result.timersStarted.filter(({ id }) => id !== sendId)
      result.timersCancelled.push(sendId)
    } else if (type === 'ignore') {
      result.decision = 'ignored'
      result.reason = (params as { reason: string }).reason
    } else if (type === 'defer') result.decision = 'deferred'
    // Anything else would be lost silently: the machine is data, and only what is data can be
    // stored.
    else
      throw new Error(
        `Action ${type} has no meaning in a saga: send a message, assign to the context or use after`
      )
  }
  return result
}
