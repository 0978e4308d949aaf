import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import { HttpProblem } from '../http/problem.ts'

/** A service has so long to answer, ms, its whole answer included. */
export const ANSWER_MS = 5000
/** Of an answer that is passed on, bytes; longer ones are refused. */
export const LARGEST_ANSWER = 8 * 1024 * 1024

/** What is asked of a service. */
export interface Question {
  readonly method: string
  /** Path and query, as the service's own API has them. */
  readonly path: string
  readonly body: Buffer | undefined
  readonly request: FastifyRequest
}

/** What a service answered. */
export interface Answered {
  readonly status: number
  readonly type: string | undefined
  readonly disposition: string | undefined
  readonly retryAfter: string | undefined
  readonly body: Buffer
}

/** Asks one service, and gives up in time. */
export type Ask = (question: Question) => Promise<Answered>

/** A service of this process: asked by its own app, as whoever asks. */
export function askHere(app: FastifyInstance, name: string, prefix: string): Ask {
  return (question) =>
    inTime(name, question, async (signal) => {
      const { request, method, path, body } = question
      const answer = await app.inject({
        method: method as 'GET',
        url: `${prefix}${path}`,
        headers: {
          ...picked(request.headers, [...PASSED_ON, 'cookie', 'host', 'origin', 'sec-fetch-site'])
        },
        remoteAddress: request.ip,
        ...(body !== undefined && { payload: body }),
        payloadAsStream: true,
        signal
      })
      return {
        status: answer.statusCode,
        ...shownOf((header) => answer.headers[header] as string | undefined),
        body: await readAll(name, answer.stream())
      }
    })
}

/**
 * A service elsewhere.
 * @param url where its operators' routes are, without a slash at the end
 * @param sessionOf the cookie by which its sign-ins are known, of a request's cookies
 */
export function askElsewhere(
  name: string,
  url: string,
  sessionOf: (cookies: string | undefined) => string | undefined
): Ask {
  const base = new URL(url)
  return (question) =>
    inTime(name, question, async (signal) => {
      const { request, method, path, body } = question
      const target = new URL(`${base.origin}${base.pathname.replace(/\/$/, '')}${path}`)
      const cookie = sessionOf(request.headers.cookie)
      // A key that is for this service alone; it is no key of this process.
      const key = request.headers[KEY_HEADER]
      const answer = await fetch(target, {
        method,
        headers: {
          ...picked(request.headers, PASSED_ON),
          ...(cookie !== undefined && { cookie }),
          ...(typeof key === 'string' && { authorization: `Bearer ${key}` })
        },
        redirect: 'manual',
        signal,
        ...(body !== undefined && { body: new Uint8Array(body) })
      }).catch((error: Error) => {
        if (signal.aborted) throw error
        const { code, message } = (error.cause ?? error) as NodeJS.ErrnoException
        throw new HttpProblem(504, `${name} cannot be reached: ${code ?? message}`)
      })
      if (answer.status >= 300 && answer.status < 400)
        throw new HttpProblem(
          502,
          `${name} answers with a redirect, which is not followed; expected the address of its operators' routes`
        )
      return {
        status: answer.status,
        ...shownOf((header) => answer.headers.get(header) ?? undefined),
        body: await readAll(name, (answer.body ?? []) as AsyncIterable<Uint8Array>)
      }
    })
}

/** Header with a key for a service elsewhere, which the process of the console does not know. */
export const KEY_HEADER = 'sagabox-peer-key'

/** Of a person's request; what belongs to one connection, and all else, stays here. */
const PASSED_ON = ['authorization', 'content-type', 'accept', 'if-match', 'idempotency-key']

function picked(headers: IncomingHttpHeaders, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = headers[name]
      return typeof value === 'string' ? [[name, value]] : []
    })
  )
}

function shownOf(header: (name: string) => string | undefined): Omit<Answered, 'status' | 'body'> {
  return {
    type: header('content-type'),
    disposition: header('content-disposition'),
    retryAfter: header('retry-after')
  }
}

async function readAll(
  name: string,
  chunks: Readable | AsyncIterable<Uint8Array>
): Promise<Buffer> {
  const read: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of chunks as AsyncIterable<Uint8Array>) {
    bytes += chunk.length
    if (bytes > LARGEST_ANSWER)
      throw new HttpProblem(
        502,
        `${name} answers more than ${LARGEST_ANSWER} bytes, which is too much for a page; ask it directly`
      )
    read.push(chunk)
  }
  return Buffer.concat(read)
}

async function inTime(
  name: string,
  { method }: Question,
  ask: (signal: AbortSignal) => Promise<Answered>
): Promise<Answered> {
  const signal = AbortSignal.timeout(ANSWER_MS)
  const late = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(tooLate(name, method)), { once: true })
  })
  late.catch(() => {})
  try {
    return await Promise.race([ask(signal), late])
  } catch (error) {
    throw signal.aborted ? tooLate(name, method) : error
  }
}

function tooLate(name: string, method: string): HttpProblem {
  const doubt =
    method === 'GET' ? '' : '; this may have been done or not: look before you repeat it'
  return new HttpProblem(504, `${name} does not answer within ${ANSWER_MS / 1000} s${doubt}`)
}
