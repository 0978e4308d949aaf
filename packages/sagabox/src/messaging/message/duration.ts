import { SagaboxError } from '../errors/sagabox-error.ts'

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** A time that cannot be read, or lies too far away. */
export class InvalidDuration extends SagaboxError {
  override readonly name = 'InvalidDuration'
  override readonly code = 'INVALID_DURATION'
}

/**
 * Milliseconds of `'31s'`, `'500ms'`, `'5m'`, `'2h'` or `'1d'`; a number is milliseconds.
 * @throws InvalidDuration that says what was expected
 */
export function milliseconds(duration: string | number): number {
  const [, amount, unit] =
    /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(
      typeof duration === 'number' ? `${duration}ms` : duration
    ) ?? []
  if (!amount || !unit)
    throw new InvalidDuration(
      `${JSON.stringify(duration)} is no duration: expected one such as '31s', '500ms', '5m', '2h' or '1d'`
    )
  return Number(amount) * UNITS[unit]!
}
