import { isDeepStrictEqual } from 'node:util'
import { boundedText } from './bounded.ts'

/** Fields that are told, and how deep they are told apart. */
export const MOST_CHANGES = 50
const DEEPEST = 5
/** Of a value, bytes of JSON. */
const LONGEST_VALUE = 1000

/** A field that is another in one record than in the other. */
export interface Change {
  /** `address.street` */
  path: string
  /** Undefined: it was not there. */
  before?: unknown
  after?: unknown
}

/** Fields that differ, those of nested records by their paths. */
export function changes(
  before: Record<string, unknown>,
  after: Record<string, unknown>,
  path = '',
  found: Change[] = []
): Change[] {
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (found.length >= MOST_CHANGES) break
    const [was, is] = [before[name], after[name]]
    if (was === is || isDeepStrictEqual(was, is)) continue
    const here = path === '' ? name : `${path}.${name}`
    if (isRecord(was) && isRecord(is) && here.split('.').length < DEEPEST)
      changes(was, is, here, found)
    else found.push({ path: here, ...shortened('before', was), ...shortened('after', is) })
  }
  return found
}

function shortened<K extends string>(key: K, value: unknown): Partial<Record<K, unknown>> {
  if (value === undefined) return {}
  const text = JSON.stringify(value)
  const short = text.length > LONGEST_VALUE ? boundedText(text, LONGEST_VALUE) : value
  return { [key]: short } as Partial<Record<K, unknown>>
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
