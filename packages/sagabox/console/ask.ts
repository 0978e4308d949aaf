import { signal } from '@preact/signals'

/** A page waits so long for an answer, ms; the process behind it gives up after 5 s. */
const ANSWER_MS = 15_000

/** Why something could not be shown or done: what a problem document says. */
export class Problem extends Error {
  readonly status: number
  readonly fields: readonly { field: string; expected: string }[]
  constructor(status: number, detail: string, fields: Problem['fields'] = []) {
    super(detail)
    this.status = status
    this.fields = fields
  }

  /** The service has no such route: it is older than this page. */
  get isMissingRoute(): boolean {
    const { status, message } = this
    if (status === 404)
      return /^There is no (GET|POST|PUT|DELETE) |^There is no saga (definition|ages)$/.test(
        message
      )
    // It was taken for the id of an instance.
    return status === 400 && /the request's path: sagaId/.test(message)
  }
}

/** Keys of services elsewhere, by name: given by hand, and forgotten with the page. */
export const peerKeys = signal<Readonly<Record<string, string>>>({})

/** Whether the process behind the page was reached when it was last asked. */
export const lostSince = signal<number | undefined>(undefined)

/** Where a service's own API is, from the page. */
export function pathTo(service: string, path: string): string {
  return `api/at/${encodeURIComponent(service)}${path}`
}

/** Asks one service. @throws Problem */
export function ask<T>(service: string, path: string, init: Asking = {}): Promise<T> {
  const key = peerKeys.value[service]
  return askPage(pathTo(service, path), {
    ...init,
    headers: key === undefined ? {} : { 'sagabox-peer-key': key }
  })
}

interface Asking {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE'
  body?: unknown
  headers?: Record<string, string>
}

/** Asks the process behind the page. @throws Problem */
export async function askPage<T>(
  path: string,
  { method = 'GET', body, headers = {} }: Asking = {}
): Promise<T> {
  let answer: Response
  try {
    answer = await fetch(path, {
      method,
      headers: { ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_MS)
    })
  } catch {
    lostSince.value ??= Date.now()
    throw new Problem(0, 'The server of this page cannot be reached')
  }
  lostSince.value = undefined
  const text = await answer.text()
  const value = text === '' ? undefined : parsed(text)
  if (answer.ok) return value as T
  const { detail, title, errors } = (value ?? {}) as {
    detail?: string
    title?: string
    errors?: Problem['fields']
  }
  throw new Problem(answer.status, detail ?? title ?? `answered ${answer.status}`, errors)
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** `?a=1&b=2` of what is given. */
export function search(
  query: Readonly<Record<string, string | number | null | undefined>>
): string {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== '')
  if (given.length === 0) return ''
  return `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()}`
}
