import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { nullable } from '../messaging/message/nullable.ts'
import { exportAudit, listAudit, type AuditFilter } from '../messaging/postgres/audit-list.ts'
import type { Database } from '../messaging/postgres/database.ts'
import { csvOnRequest } from './csv.ts'
import { ExportDesk } from './export-desk.ts'
import { decodeCursor, DEFAULT_LIMIT, Page, PageQuery, toPage } from './page.ts'
import { text } from './text.ts'
import { timeOf } from './time.ts'

const Row = Type.Object({
  id: Type.String(),
  at: Type.String(),
  actor: Type.String({ description: 'The name of a key, or what a provider calls them' }),
  kind: Type.String({ description: 'key, oidc or anonymous; several: see times' }),
  roles: Type.Array(Type.String()),
  action: Type.String({ description: 'The permission that it takes' }),
  target: Type.String({ description: 'On what' }),
  reason: nullable(Type.String({ description: 'Why; of what was refused, what was answered' })),
  outcome: Type.String({ description: 'done or refused' }),
  status: Type.Integer({ description: 'Of the answer' }),
  times: Type.Integer({
    description: 'More than 1: so many were refused too fast to be written one by one'
  }),
  requestId: Type.String()
})

const Time = Type.String({ format: 'date-time' })
const Filter = {
  actor: Type.Optional(text(200)),
  action: Type.Optional(text(200, 'Such as letter:retry')),
  target: Type.Optional(text(500, 'Such as dead letter 12')),
  from: Type.Optional({ ...Time, description: 'At this time or later' }),
  to: Type.Optional({ ...Time, description: 'Before this time' })
}
const closed = { additionalProperties: false }
const CURSOR = /^[0-9]{1,16} [0-9]{1,19}$/
const tags = ['operations']

/** Who changed what of one service. @param name of the service */
export function auditRoutes(name: string, database: Database): FastifyPluginAsyncTypebox {
  const path = `/ops/${name}/audit`
  const desk = new ExportDesk()

  return async (app) => {
    app.get(
      path,
      {
        onSend: csvOnRequest,
        schema: {
          permission: 'audit:read',
          tags,
          summary: `Who changed what of ${name}, and what was refused; newest first`,
          description: 'Kept for 365 days, what was refused for 30.',
          querystring: Type.Object({ ...Filter, ...PageQuery }, closed),
          response: { 200: Page(Row) }
        }
      },
      async ({ query: { cursor, limit = DEFAULT_LIMIT, ...filter } }) => {
        const [micros, id] = decodeCursor(cursor, CURSOR)?.split(' ') ?? []
        const rows = await listAudit(
          database,
          withTimes(filter),
          limit + 1,
          micros === undefined ? undefined : { micros, id: id! }
        )
        return toPage(rows, limit, (row) => `${row.micros} ${row.id}`)
      }
    )

    app.get(
      `${path}/export`,
      {
        schema: {
          permission: 'audit:read',
          tags,
          summary: `The same, all of it, one JSON object a line`,
          description: 'Two at a time; others get 503.',
          querystring: Type.Object(Filter, closed),
          response: {
            200: {
              description: 'Streamed: it takes the memory of a page, here and there',
              content: { 'application/x-ndjson': { schema: Row } }
            }
          }
        }
      },
      async ({ query, raw }, reply) => {
        const filter = withTimes(query)
        const lines = await desk.open(() => exportAudit(database, filter), raw.socket)
        // The schema is that of one line.
        return reply.type('application/x-ndjson').send(lines as never)
      }
    )
  }
}

function withTimes({ from, to, ...filter }: AuditFilter): AuditFilter {
  return {
    ...filter,
    ...(from !== undefined && { from: timeOf('from', from) }),
    ...(to !== undefined && { to: timeOf('to', to) })
  }
}
