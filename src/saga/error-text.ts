import { describeError } from '../messaging/failure.ts'
import { storableText } from '../messaging/sql.ts'

/** Longest text of an error that an instance keeps, characters. */
const LONGEST = 2000

/** An error in words that PostgreSQL takes. Whatever a machine throws: it never throws itself. */
export function errorText(error: unknown): string {
  return shortText(textOf(error))
}

/** A text as an instance keeps it. */
export function shortText(text: string): string {
  return storableText(text.slice(0, LONGEST))
}

function textOf(error: unknown): string {
  try {
    const { text } = describeError(error)
    // A message is text only by convention.
    if (typeof text === 'string') return text
  } catch {}
  return 'an error that cannot be described'
}
