// `sagabox/fastify`: what routes of a service are written with.
export { Unauthorized } from './access/unauthorized.ts'
export { auditOf, type Audited } from './http/audit.ts'
export { type Audit, UNAUDITED } from './messaging/postgres/audit.ts'
export { idempotentReplayed, IdempotencyHeaders } from './http/idempotency.ts'
export { linkTo } from './http/links.ts'
export { decodeCursor, DEFAULT_LIMIT, Page, PageQuery, toPage } from './http/page.ts'
export { HttpProblem, InvalidRequest, notFound, type FieldError } from './http/problem.ts'
export { needPermission, PUBLIC } from './http/permission.ts'
export { moveForRequest } from './http/request.ts'
export { PRINTABLE, text } from './http/text.ts'
export {
  operatorRoutes,
  type OperatorRoutesOptions,
  type Running
} from './service/operator-routes.ts'
export { nullable } from './messaging/message/nullable.ts'
