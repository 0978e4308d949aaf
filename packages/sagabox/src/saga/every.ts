import { raise } from 'xstate'
import { milliseconds } from '../messaging/message/duration.ts'

/**
 * What the name of a delay begins with whose timer comes again and again, at an even pace. Other
 * timers that their own event starts again wait twice as long each time.
 */
export const EVERY = 'every '

/** Shortest pace, ms: each time is a step in the instance's history. */
const SHORTEST_MS = 1000

interface Config {
  readonly every?: Readonly<Record<string, unknown>>
  readonly after?: Readonly<Record<string, unknown>>
  readonly states?: Readonly<Record<string, Config>>
}

/**
 * A state's configuration with what it does `every` so often written as XState has it: a timer whose
 * event starts it again, and leaves the state and its other timers as they are.
 * @param id that XState gives the state
 * @throws Error when a pace is none, or too short
 */
export function withPaces({ every, states, ...config }: Config, id: string): object {
  const paces = Object.entries(every ?? {}).map(([pace, actions]) => {
    const delay = milliseconds(pace)
    if (delay < SHORTEST_MS)
      throw new Error(`state ${id} does something every ${pace}: expected 1s or more`)
    const event = `xstate.after.${EVERY}${pace}.${id}`
    const again = raise({ type: event }, { id: event, delay })
    const own = Array.isArray(actions) ? (actions as unknown[]) : [actions]
    return [`${EVERY}${pace}`, { actions: [...own, again] }] as const
  })
  return {
    ...config,
    ...(paces.length > 0 && { after: { ...config.after, ...Object.fromEntries(paces) } }),
    ...(states && {
      states: Object.fromEntries(
        Object.entries(states).map(([key, inner]) => [key, withPaces(inner, `${id}.${key}`)])
      )
    })
  }
}

/** Milliseconds of a delay by its name: `30s`, or `every 1d`. */
export function delayNamed(name: string): number {
  return milliseconds(name.startsWith(EVERY) ? name.slice(EVERY.length) : name)
}
