import Type from 'typebox'

/**
 * No control characters, and no half of a surrogate pair: PostgreSQL stores neither NUL nor the
 * latter, and a log line suffers from all.
 */
export const PRINTABLE = '^[^\\x00-\\x1f\\x7f\\ud800-\\udfff]*$'

/** A text of a request, from one character on. */
export function text(maxLength: number, description?: string) {
  return Type.String({
    minLength: 1,
    maxLength,
    pattern: PRINTABLE,
    ...(description !== undefined && { description })
  })
}
