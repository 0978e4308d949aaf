import type { TSchema } from 'typebox'
import Type from 'typebox'
import { WrongUsage, type Call, type Option } from './command.ts'
import type { Query, Server } from './server.ts'
import { clean } from './text.ts'

const DEFAULT_LIMIT = 20
const MOST = 10_000
/** What a server answers at once. */
const PAGE = 100
/** A filter may find nothing for a long time; after so many empty pages it says where it stopped. */
const EMPTY_PAGES = 50

export const PAGE_OPTIONS: Readonly<Record<string, Option>> = {
  limit: { value: 'N', help: `how many at most, ${DEFAULT_LIMIT} when not given` },
  cursor: { value: 'C', help: 'where the list before ended; it says so itself' }
}

export interface List<T> {
  items: T[]
  /** Where there may be more; null at the end. */
  nextCursor: string | null
}

export interface Part {
  limit: number
  cursor: string | null
}

/** Which part of a list is asked for. */
export function partOf({ options }: Pick<Call, 'options'>): Part {
  const limit = options.integer('limit', 1, MOST) ?? DEFAULT_LIMIT
  const cursor = options.text('cursor')
  if (cursor === undefined || /^[\w-]{1,200}$/.test(cursor))
    return { limit, cursor: cursor ?? null }
  throw new WrongUsage('--cursor is none; expected what a list before ended with')
}

/** Reads a list page by page, as far as was asked for. */
export async function readList<T extends TSchema>(
  server: Server,
  path: string,
  item: T,
  query: Query,
  { limit, cursor: given }: Part
): Promise<List<Type.Static<T>>> {
  const Page = Type.Object({
    items: Type.Array(item, { maxItems: PAGE }),
    nextCursor: Type.Union([Type.String({ pattern: '^[\\w-]{1,200}$' }), Type.Null()])
  })
  const items: Type.Static<T>[] = []
  let cursor = given
  let empty = 0
  do {
    const asked = { ...query, limit: Math.min(PAGE, limit - items.length) }
    const page = (await server.get(path, Page, {
      ...asked,
      ...(cursor !== null && { cursor })
    })) as List<Type.Static<T>>
    items.push(...page.items)
    empty = page.items.length === 0 ? empty + 1 : 0
    cursor = page.nextCursor
  } while (cursor !== null && items.length < limit && empty < EMPTY_PAGES)
  return { items: items.slice(0, limit), nextCursor: cursor }
}

/** The line under a list that has more. */
export function more({ nextCursor }: List<unknown>): string[] {
  return nextCursor === null ? [] : ['', `There may be more: --cursor ${clean(nextCursor)}`]
}
