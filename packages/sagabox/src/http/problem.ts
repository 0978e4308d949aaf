import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import Type from 'typebox'
import { RequestAborted, RequestNotSent, RequestTimedOut } from '../messaging/request/errors.ts'
import { isAmbiguous, isBadData, isConflict, isUnavailable } from '../messaging/postgres/sql.ts'
import { Refusals } from './refusals.ts'
import { SagaboxError } from '../messaging/errors/sagabox-error.ts'

/** RFC 9457 problem document; `errors` names each wrong field and what was expected of it. */
const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.Optional(Type.String()),
    errors: Type.Optional(
      Type.Array(Type.Object({ field: Type.String(), expected: Type.String() }))
    )
  },
  { description: 'RFC 9457 problem document' }
)

const response = {
  description: 'What was wrong, and what was expected',
  content: { 'application/problem+json': { schema: Problem } }
}

/** A field of a request that is wrong, and what was expected of it. */
export interface FieldError {
  field: string
  expected: string
}

/** An answer to the client that is not a success. */
export class HttpProblem extends SagaboxError {
  override readonly code: string = 'HTTP_PROBLEM'
  readonly status: number
  readonly errors: FieldError[] | undefined
  constructor(status: number, detail: string, errors?: FieldError[]) {
    super(detail)
    this.status = status
    this.errors = errors
  }
}

/** The answer 404: `notFound('parcel')` says that there is no parcel. */
export function notFound(what: string): HttpProblem {
  return new HttpProblem(404, `There is no ${what}`)
}

/**
 * Turns everything that goes wrong in a route of this app, or part of an app, into a problem
 * document, and says so in each route's documentation.
 */
export function useProblemAnswers(app: FastifyInstance): void {
  app.addHook('onRoute', ({ schema }) => {
    if (schema && !schema.hide)
      schema.response = { ...(schema.response as object), '4xx': response, '5xx': response }
  })
  const refusals = new Refusals(app.log)
  app.addHook('onClose', async () => refusals.stop())
  app.setErrorHandler((error: FastifyError, request, reply) =>
    sendProblem(error, request, reply, refusals)
  )
}

/** The same for a whole server: also what goes wrong outside of routes. */
export function useProblems(app: FastifyInstance): void {
  useProblemAnswers(app)
  // Node answers these by itself, with nothing in the answer.
  app.addHook('onRequest', (request, _reply, next) => next(hostProblem(request)))
  app.server.on('checkExpectation', (_request: IncomingMessage, answer: ServerResponse) => {
    const body = JSON.stringify(problem(417, 'This server meets no expectation but 100-continue'))
    answer.writeHead(417, {
      'content-type': 'application/problem+json',
      'content-length': Buffer.byteLength(body),
      connection: 'close'
    })
    answer.end(body)
  })
  app.setNotFoundHandler((request: FastifyRequest, reply) =>
    send(
      reply,
      404,
      `There is no ${request.method} ${request.url.split('?', 1)[0]}; GET /docs lists what there is`
    )
  )
}

function hostProblem({ headers: { host }, raw: { httpVersion } }: FastifyRequest) {
  if (host !== undefined || httpVersion !== '1.1') return undefined
  return new HttpProblem(400, 'The request has no Host header; HTTP/1.1 expects one')
}

/** Answers with the problem document of an error. */
export function sendProblem(
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
  refusals?: Refusals
): FastifyReply {
  if (error instanceof HttpProblem) return send(reply, error.status, error.message, error.errors)
  if (isBusy(error)) {
    refusals?.refused('No database connection became free in time', { reqId: request.id })
    return send(
      reply,
      503,
      'No database connection became free in time; nothing was done, try again'
    )
  }
  if (isUnavailable(error)) {
    refusals?.refused('Database unavailable', { err: error, reqId: request.id })
    const what = isAmbiguous(error)
      ? 'The database did not answer in time'
      : 'The database is not available'
    // A commit whose answer was lost may have happened.
    const advice =
      request.method === 'GET'
        ? 'try again'
        : 'this may have been done or not: look before you repeat it, unless it has an Idempotency-Key'
    return send(reply, 503, `${what}; ${advice}`)
  }
  if (isConflict(error)) {
    refusals?.refused('Other transactions were in the way each time', {
      err: error,
      reqId: request.id
    })
    return send(reply, 503, 'Others are changing the same thing; try again')
  }
  if (isBadData(error)) {
    const found = 'The request holds a value that cannot be stored or looked up'
    return send(
      reply,
      400,
      `${found}; expected text without control characters, numbers within limits`
    )
  }
  // What the route asked of another service, and did not get.
  if (error instanceof RequestTimedOut) return send(reply, 504, error.message)
  if (error instanceof RequestNotSent || error instanceof RequestAborted)
    return send(reply, 503, error.message)
  const status = error.statusCode ?? 500
  if (status < 500) return send(reply, status, error.message)
  request.log.error({ err: error, reqId: request.id }, 'Request failed')
  return send(
    reply,
    500,
    'Something went wrong here; the log has the cause under this request id: ' + request.id
  )
}

/**
 * The pool had no connection to give within its time: its connections are there, and others use
 * them.
 */
function isBusy(error: Error): boolean {
  return /timeout exceeded when trying to connect/.test(error.message)
}

/** A request that does not fit its route's schema. */
export class InvalidRequest extends HttpProblem {
  override readonly code = 'INVALID_REQUEST'
  constructor(part: string, errors: FieldError[]) {
    super(
      400,
      `Not valid in the request's ${part}: ${errors.map(({ field, expected }) => `${field} ${expected}`).join('; ')}`,
      errors
    )
  }
}

const REFUSALS: Record<string, [status: number, detail: string]> = {
  HPE_HEADER_OVERFLOW: [431, 'The request line and headers are too long; expected at most 16 KiB'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'The request did not arrive in time']
}

/** Answers what Node refuses before it is a request. */
export function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
  const [status, detail] = REFUSALS[error.code ?? ''] ?? [400, 'This is not an HTTP request']
  const body = JSON.stringify(problem(status, detail))
  socket.write(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`
  )
  socket.destroySoon()
}

const details = new WeakMap<FastifyRequest, string>()

/** What was answered to a request that was refused. */
export function detailOf(request: FastifyRequest): string | undefined {
  return details.get(request)
}

function send(
  reply: FastifyReply,
  status: number,
  detail: string,
  errors?: FieldError[]
): FastifyReply {
  details.set(reply.request, detail)
  if (status === 503) reply.header('retry-after', '1')
  return reply
    .code(status)
    .type('application/problem+json')
    .serializer(JSON.stringify)
    .send(problem(status, detail, errors))
}

function problem(status: number, detail: string, errors?: FieldError[]) {
  return { type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, detail, errors }
}
