import type { AnyStateMachine, AnyStateNode } from 'xstate'

/**
 * Longest delay, ms: 100 years. The times that it leads to have four digits for the year, which
 * PostgreSQL reads as they are.
 */
const LONGEST_DELAY_MS = 100 * 365.25 * 24 * 3600 * 1000

export const EXPECTED_DELAY = 'milliseconds, at most 100 years of them'

/**
 * Whether a timer can be set by it. One that is computed may be negative: what is past is due at
 * once.
 */
export function isDelay(ms: unknown): ms is number {
  return typeof ms === 'number' && ms <= LONGEST_DELAY_MS && ms >= -LONGEST_DELAY_MS
}

/**
 * What is wrong with the delays that a state waits for, as far as they are written down. XState
 * takes a name that it does not know for no delay at all: the deadline would pass as it is set.
 */
export function delayProblemsOf(
  { implementations }: AnyStateMachine,
  { after, id }: AnyStateNode
): string[] {
  return [...new Set(after.map(({ delay }) => delay))].flatMap((delay) => {
    const named = typeof delay === 'string'
    const delays = implementations.delays as Readonly<Record<string, unknown>>
    if (named && !Object.hasOwn(delays, delay))
      return [
        `state ${id} has an after ${delay}, which is neither ${EXPECTED_DELAY} nor a name under delays`
      ]
    const ms = named ? delays[delay] : delay
    if (typeof ms === 'function' || (isDelay(ms) && ms >= 0)) return []
    return [
      `state ${id} has an after ${String(delay)}${named ? `, which is ${String(ms)}` : ''}; expected 0 or more ${EXPECTED_DELAY}`
    ]
  })
}
