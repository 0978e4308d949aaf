import Type, { type TSchema } from 'typebox'
import { nullable } from '../messaging/message/nullable.ts'
import { HttpProblem } from './problem.ts'

/** Query of a list: how many, and where the last page ended. */
export const PageQuery = {
  limit: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 100, description: 'Page size, 20 when not given' })
  ),
  cursor: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9_-]{1,200}$',
      description: '`nextCursor` of the page before'
    })
  )
}

/** Items of a page when a request does not say. */
export const DEFAULT_LIMIT = 20

/** A page of a list. */
export function Page<T extends TSchema>(item: T) {
  return Type.Object({ items: Type.Array(item), nextCursor: nullable(Type.String()) })
}

/** Cursors are opaque to clients: the key of the last item. */
function encodeCursor(key: string): string {
  return Buffer.from(key).toString('base64url')
}

/**
 * The key after which a page begins.
 * @param cursor `nextCursor` of the page before; undefined for the first
 * @param pattern what the keys of this list look like
 * @throws HttpProblem 400 when it is none of ours
 */
export function decodeCursor(cursor: string | undefined, pattern: RegExp): string | undefined {
  if (cursor === undefined) return undefined
  const key = Buffer.from(cursor, 'base64url').toString()
  if (!pattern.test(key))
    throw new HttpProblem(400, "The request's query is not valid", [
      { field: 'cursor', expected: 'must be a nextCursor that this list answered' }
    ])
  return key
}

/**
 * Makes a page of what a query found.
 * @param items one more than the page holds when there is a next page
 * @param readOn the key after which there may be more, although these are fewer: not everything was
 * looked at
 */
export function toPage<T>(
  items: T[],
  limit: number,
  keyOf: (item: T) => string,
  readOn?: string
): { items: T[]; nextCursor: string | null } {
  const page = items.slice(0, limit)
  const last = items.length > limit ? keyOf(page.at(-1)!) : readOn
  return { items: page, nextCursor: last === undefined ? null : encodeCursor(last) }
}
