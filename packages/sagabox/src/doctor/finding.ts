/** Something that is not as it should be. */
export interface Finding {
  /** Where: a database's schema, a queue, a broker. */
  about: string
  found: string
  expected: string
  /** What to do. */
  advice: string
}

export interface Examination {
  findings: Finding[]
  /** Sentences about what was looked at and is well, or could not be looked at. */
  notes: string[]
}

/**
 * Clocks may differ by so much, seconds, before it is said. A broker's is known to half a second.
 */
export const MOST_SKEW_SECONDS = 4

/** @param seconds how far the other clock is ahead */
export function skewOf(about: string, seconds: number): Finding[] {
  if (Math.abs(seconds) <= MOST_SKEW_SECONDS) return []
  const direction = seconds > 0 ? 'ahead of' : 'behind'
  return [
    {
      about,
      found: `its clock is ${Math.abs(seconds).toFixed(1)} s ${direction} this machine's`,
      expected: `at most ${MOST_SKEW_SECONDS} s between the two`,
      advice:
        'have both follow a time server (timedatectl shows whether they do): timers and redeliveries are due by these clocks'
    }
  ]
}
