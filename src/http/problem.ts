import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { STATUS_CODES } from 'node:http'
import Type from 'typebox'
import { isConflict, isUnavailable } from '../messaging/sql.ts'

/** RFC 9457 problem document; `errors` names each wrong field and what was expected of it. */
export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.Optional(Type.String()),
    errors: Type.Optional(Type.Array(Type.Object({ field: Type.String(), expected: Type.String() })))
  },
  { description: 'RFC 9457 problem document' }
)

/** How OpenAPI shows a route's errors. */
export const problemResponse = { description: 'What was wrong, and what was expected', content: { 'application/problem+json': { schema: Problem } } }

export interface FieldError {
  field: string
  expected: string
}

/** An answer to the client that is not a success. */
export class HttpProblem extends Error {
  readonly status: number
  readonly errors: FieldError[] | undefined
  constructor(status: number, detail: string, errors?: FieldError[]) {
    super(detail)
    this.status = status
    this.errors = errors
  }
}

export function notFound(what: string): HttpProblem {
  return new HttpProblem(404, `There is no ${what}`)
}

/** Turns everything that goes wrong in a route into a problem document. */
export function useProblems(app: FastifyInstance): void {
  app.setErrorHandler(sendProblem)
  app.setNotFoundHandler((request: FastifyRequest, reply) => send(reply, 404, `There is no ${request.method} ${request.url.split('?', 1)[0]}; GET /docs lists what there is`))
}

/** Answers with the problem document of an error. */
export function sendProblem(error: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error instanceof HttpProblem) return send(reply, error.status, error.message, error.errors)
  if (error instanceof InvalidRequest) return send(reply, 400, error.message, error.errors)
  if (isUnavailable(error)) {
    request.log.warn({ err: error, reqId: request.id }, 'Database unavailable')
    return send(reply.header('retry-after', '1'), 503, 'The database is not available; try again')
  }
  if (isConflict(error)) {
    request.log.warn({ err: error, reqId: request.id }, 'Given up: other transactions were in the way each time')
    return send(reply.header('retry-after', '1'), 503, 'Others are changing the same thing; try again')
  }
  const status = error.statusCode ?? 500
  if (status < 500) return send(reply, status, error.message)
  request.log.error({ err: error, reqId: request.id }, 'Request failed')
  return send(reply, 500, 'Something went wrong here; the log has the cause under this request id: ' + request.id)
}

/** A request that does not fit its route's schema. */
export class InvalidRequest extends Error {
  readonly statusCode = 400
  readonly errors: FieldError[]
  constructor(part: string, errors: FieldError[]) {
    super(`Not valid in the request's ${part}: ${errors.map(({ field, expected }) => `${field} ${expected}`).join('; ')}`)
    this.errors = errors
  }
}

function send(reply: FastifyReply, status: number, detail: string, errors?: FieldError[]): FastifyReply {
  return reply
    .code(status)
    .type('application/problem+json')
    .serializer(JSON.stringify)
    .send({ type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, detail, errors })
}
