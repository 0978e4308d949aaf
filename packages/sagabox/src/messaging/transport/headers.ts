import type { Headers } from './transport.ts'

/** A whole number, written as one or as text. */
export function numberIn(headers: Headers, name: string): number | undefined {
  const value = own(headers, name)
  const number =
    typeof value === 'number' || (typeof value === 'string' && value !== '')
      ? Number(value)
      : Number.NaN
  return Number.isSafeInteger(number) ? number : undefined
}

/** A header of that name that is the message's own: not what every object inherits. */
export function own(headers: Headers, name: string): unknown {
  return Object.hasOwn(headers, name) ? headers[name] : undefined
}
