import { StateMachine, type AnyStateMachine } from 'xstate'

// XState asks the innermost state first, and its wildcards match everything: a state that ignores
// `'*'` also takes the timer of the state around it, which then never ends.

/** The part of a state's configuration in which wildcards are. */
interface StateConfig {
  on?: Readonly<Record<string, unknown>>
  states?: Readonly<Record<string, StateConfig>>
}

/** A wildcard of a machine: in which state it is, and what it is. */
export interface Wildcard {
  state: string
  descriptor: string
}

/**
 * A machine in which each wildcard stands for the events that it matches among the given ones, and
 * for nothing else: neither a timer nor an event that the machine raises itself. The same machine
 * when it has no wildcards.
 */
export function expandWildcards(
  machine: AnyStateMachine,
  events: readonly string[]
): AnyStateMachine {
  const config = machine.config as StateConfig
  if (wildcardsOf(machine).length === 0) return machine
  return new StateMachine(expanded(config, events) as never, machine.implementations as never)
}

/** The wildcards of a machine that stand for none of the events; `'*'` may. */
export function idleWildcards(machine: AnyStateMachine, events: readonly string[]): Wildcard[] {
  return wildcardsOf(machine).filter(
    ({ descriptor }) => descriptor !== '*' && !events.some((event) => matches(descriptor, event))
  )
}

function wildcardsOf({ config }: AnyStateMachine): Wildcard[] {
  const found = (state: string, { on = {}, states = {} }: StateConfig): Wildcard[] => [
    ...Object.keys(on)
      .filter(isWildcard)
      .map((descriptor) => ({ state, descriptor })),
    ...Object.entries(states).flatMap(([key, inner]) =>
      found(state === '' ? key : `${state}.${key}`, inner)
    )
  ]
  return found('', config as StateConfig)
}

function expanded({ on, states, ...config }: StateConfig, events: readonly string[]): StateConfig {
  return {
    ...config,
    ...(on && { on: expandedEvents(on, events) }),
    ...(states && {
      states: Object.fromEntries(
        Object.entries(states).map(([key, inner]) => [key, expanded(inner, events)])
      )
    })
  }
}

/** In XState's order: what is named exactly, then wildcards, the longest first. */
function expandedEvents(
  on: Readonly<Record<string, unknown>>,
  events: readonly string[]
): Record<string, unknown> {
  const wildcards = Object.keys(on)
    .filter(isWildcard)
    .toSorted((a, b) => b.length - a.length)
  const named = Object.keys(on).filter((descriptor) => !isWildcard(descriptor))
  const all = new Set([
    ...named,
    ...events.filter((event) => wildcards.some((wildcard) => matches(wildcard, event)))
  ])
  return Object.fromEntries(
    [...all].map((event) => {
      // What is named and no event of the saga's, such as one that the machine raises, is left as
      // it was written.
      const taking = events.includes(event)
        ? wildcards.filter((wildcard) => matches(wildcard, event))
        : []
      const own = Object.hasOwn(on, event) ? [event] : []
      return [
        event,
        taking.length === 0
          ? on[event]
          : [...own, ...taking].flatMap((descriptor) => on[descriptor])
      ]
    })
  )
}

function isWildcard(descriptor: string): boolean {
  return descriptor === '*' || descriptor.endsWith('.*')
}

function matches(descriptor: string, event: string): boolean {
  const prefix = descriptor.slice(0, -2)
  return descriptor === '*' || event === prefix || event.startsWith(`${prefix}.`)
}
