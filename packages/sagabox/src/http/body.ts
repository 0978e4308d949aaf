import { isUtf8 } from 'node:buffer'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Readable } from 'node:stream'
import { Turns } from '../messaging/async/turns.ts'
import { HttpProblem } from './problem.ts'

/**
 * Largest request body, bytes, where the route does not say: a product, or a filter of dead
 * letters, takes 3 KiB.
 */
export const BODY_LIMIT = 16 * 1024
/**
 * Bytes of bodies that are arriving at once, from all clients: a thousand of the largest orders.
 */
const MOST_BYTES_ARRIVING = 64 * 1024 * 1024
/**
 * Bytes of bodies that are read in one turn of the event loop: 10 ms at the worst. An order has a
 * few hundred.
 */
const BYTES_A_TURN = 64 * 1024

const JSON_TYPE = /^application\/json\s*(;|$)/i

type Done = (error: Error | null, body?: unknown) => void

/**
 * Reads bodies: JSON, up to the limit of the route, and in turns, so that many at once do not hold
 * up the rest of the process. A route
 * without a schema for its body takes none: what a client sends all the same, `{}` or nothing of
 * some content type, is left unread.
 */
export function useBodies(app: FastifyInstance): void {
  const parseJson = app.getDefaultJsonParser('error', 'error')
  const turns = new Turns(BYTES_A_TURN)
  let arriving = 0

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (request: FastifyRequest, payload: Readable, done: Done) => {
    if (request.is404) return done(null)
    const { bodyLimit, schema } = request.routeOptions
    const isWanted = schema?.body !== undefined
    const refusal = refusalOf(request, bodyLimit, isWanted)
    if (refusal) return done(refusal)
    const chunks: Buffer[] = []
    let bytes = 0
    const end = (problem: Error | null) => {
      payload.off('data', onData).off('end', onEnd).off('error', onError).off('close', onError)
      // Whatever follows is not looked at; an error without a listener would end the process.
      payload.on('error', () => {})
      if (problem) arriving -= bytes
      if (problem) done(problem)
    }
    const onData = (chunk: Buffer) => {
      bytes += chunk.length
      arriving += chunk.length
      if (bytes > bodyLimit) return end(tooLarge(request, bodyLimit, `more than ${bodyLimit}`))
      if (arriving > MOST_BYTES_ARRIVING) return end(tooMuch())
      chunks.push(chunk)
    }
    const onError = () => {
      end(new HttpProblem(400, `The body ended after ${bytes} bytes, before it was complete`))
    }
    const onEnd = () => {
      end(null)
      if (!isWanted) {
        arriving -= bytes
        return done(null)
      }
      const parse = () => {
        arriving -= bytes
        const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
        if (bytes === 0) return done(new HttpProblem(400, 'The body is empty; expected JSON'))
        if (!isUtf8(body)) return done(new HttpProblem(400, 'The body is not UTF-8; expected JSON'))
        void parseJson(request, body.toString(), done)
      }
      if (turns.isFree(bytes)) parse()
      else turns.later(bytes, parse)
    }
    payload.on('data', onData).on('end', onEnd).on('error', onError).on('close', onError)
  })
}

function refusalOf(
  request: FastifyRequest,
  limit: number,
  isWanted: boolean
): HttpProblem | undefined {
  const { 'content-length': length, 'content-type': type } = request.headers
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (Number(length) > limit) return tooLarge(request, limit, `${length}`)
  if (!isWanted) return undefined
  if (type === undefined || !JSON_TYPE.test(type)) {
    const found = type?.slice(0, 100) ?? 'of no content type'
    return new HttpProblem(415, `The body is ${found}; expected application/json`)
  }
  if (encoding.toLowerCase() !== 'identity') {
    const found = encoding.slice(0, 100)
    return new HttpProblem(
      415,
      `The body is encoded as ${found}; expected one that is not compressed`
    )
  }
  return undefined
}

function tooMuch(): HttpProblem {
  const found = `Bodies of more than ${MOST_BYTES_ARRIVING} bytes are arriving at once`
  return new HttpProblem(503, `${found}; try again`)
}

function tooLarge(request: FastifyRequest, limit: number, bytes: string): HttpProblem {
  const {
    method,
    routeOptions: { url = '' }
  } = request
  return new HttpProblem(
    413,
    `The body has ${bytes} bytes; ${method} ${url} takes at most ${limit}`
  )
}
