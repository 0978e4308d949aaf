import Type from 'typebox'

/** What a decimal may be: no more digits before or behind the point than these. */
const DIGITS = 40
/** Of a decimal as text: no exponent, no separators of thousands. */
export const DECIMAL = `^-?\\d{1,${DIGITS}}(\\.\\d{1,${DIGITS}})?$`
const IS_DECIMAL = new RegExp(DECIMAL)

/** Of a number of JSON, so many digits are what its sender wrote: a double keeps no more. */
const EXACT_DIGITS = 15

/** What a decimal is told apart by in a schema. */
export const DECIMAL_FORMAT = 'decimal'

/**
 * .NET's `decimal`, as text: `'19.90'`. What comes as text is kept to the last zero; a number is
 * read, too, where it has no more digits than a double keeps. What is sent is text, as MassTransit
 * writes it. Compute with a library for decimals; `Number` rounds.
 */
export function Decimal() {
  return Type.String({ format: DECIMAL_FORMAT, pattern: DECIMAL })
}

/** The text of a number of JSON; undefined when it may not be what its sender wrote. */
export function decimalOf(number: number): string | undefined {
  const text = String(number)
  return IS_DECIMAL.test(text) && text.replace(/\D|^0\./g, '').length <= EXACT_DIGITS
    ? text
    : undefined
}

/** What is said of a value that is none. */
export const NO_DECIMAL = 'must be a decimal as text, such as "19.90"'
