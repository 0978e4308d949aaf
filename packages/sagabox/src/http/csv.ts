import type { onSendHookHandler } from 'fastify'

/** What a spreadsheet takes for a formula, and would carry out. */
const FORMULA = /^[=+\-@\t\r]/

/**
 * For a route that answers a page of a list: who accepts `text/csv` and no JSON gets that, with the
 * next page's cursor in `x-next-cursor`. It is no longer than the page.
 */
export const csvOnRequest: onSendHookHandler = (request, reply, payload, done) => {
  void reply.header('vary', 'accept')
  const { accept = '' } = request.headers
  const isWanted = accept.includes('text/csv') && !accept.includes('json')
  if (!isWanted || reply.statusCode !== 200 || typeof payload !== 'string')
    return done(null, payload)
  const { items, nextCursor } = JSON.parse(payload) as {
    items: Record<string, unknown>[]
    nextCursor: string | null
  }
  const text = csvOf(items)
  if (nextCursor !== null) void reply.header('x-next-cursor', nextCursor)
  void reply.type('text/csv; charset=utf-8').header('content-length', Buffer.byteLength(text))
  done(null, text)
}

/**
 * Records as lines of RFC 4180, the names of their fields first. A text that a spreadsheet would
 * take for a formula has an apostrophe before it.
 */
export function csvOf(items: readonly Record<string, unknown>[]): string {
  const names = [...new Set(items.flatMap((item) => Object.keys(item)))]
  if (names.length === 0) return ''
  const lines = items.map((item) => names.map((name) => cellOf(item[name])).join(','))
  return [names.map(cellOf).join(','), ...lines, ''].join('\r\n')
}

function cellOf(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  const safe = FORMULA.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
