import { describeError } from '../../messaging/errors/describe.ts'
import { storableText } from '../../messaging/postgres/sql.ts'

/** Longest text of an error that an instance keeps, characters. */
const LONGEST = 2000

/** An error in words that PostgreSQL takes. Whatever a machine throws: it never throws itself. */
export function errorText(error: unknown): string {
  return shortText(describeError(error).text)
}

/** A text as an instance keeps it. */
export function shortText(text: string): string {
  return storableText(text.slice(0, LONGEST))
}
