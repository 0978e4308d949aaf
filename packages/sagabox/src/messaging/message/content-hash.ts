import { hash } from 'node:crypto'
import type { Message } from './message.ts'

/**
 * Tells a copy of a message from another message under its id: 128 bits, written as 32 hexadecimal
 * digits, of the contract's name and the body as parsed. Neither the order of keys nor white space
 * counts, nor what an envelope says beside the body, for MassTransit writes envelopes anew; and a
 * property that is null is one that is not there. Measured: 1 µs for a body of 3 fields, 2 µs for
 * an order of two lines.
 */
export function contentHash({ contract, body }: Pick<Message, 'contract' | 'body'>): string {
  return hash('sha256', `${contract.name} ${canonical(body)}`).slice(0, 32)
}

/**
 * One text for one value. Texts come with their lengths: nothing inside them can look like a mark.
 */
function canonical(value: unknown): string {
  if (typeof value === 'string') return `${value.length}:${value}`
  if (typeof value !== 'object' || value === null) return String(value)
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  let text = '{'
  for (const key of Object.keys(value).toSorted()) {
    const field: unknown = (value as Record<string, unknown>)[key]
    if (field !== null && field !== undefined) text += `${key.length}:${key}${canonical(field)},`
  }
  return `${text}}`
}
