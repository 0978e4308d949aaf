import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { discardScheduled, listScheduled } from '../messaging/outbox/scheduled.ts'
import type { OutboxRouteOptions } from './outbox.ts'
import { auditOf } from './audit.ts'
import { discardSchema } from './discard.ts'
import { maskedRow, maskFor } from './mask-for.ts'
import { decodeCursor, DEFAULT_LIMIT, Page, PageQuery, toPage } from './page.ts'
import { notFound } from './problem.ts'
import { PRINTABLE } from './text.ts'

const Scheduled = Type.Object({
  id: Type.String(),
  token: Type.String({ description: 'What it is cancelled by' }),
  messageId: Type.String(),
  destination: Type.String(),
  dueAt: Type.String(),
  createdAt: Type.String(),
  bytes: Type.Integer({ description: 'Of the whole payload' }),
  payload: Type.String({ description: 'Its beginning' })
})

const CURSOR = /^[0-9]{1,16} [0-9]{1,15}$/
const tags = ['operations']

/** What one service is to send later: to look at, and to give up. */
export function scheduledRoutes({
  name,
  database,
  log,
  mask
}: OutboxRouteOptions): FastifyPluginAsyncTypebox {
  const path = `/ops/${name}/outbox/scheduled`

  return async (app) => {
    app.get(
      path,
      {
        schema: {
          permission: 'outbox:read',
          tags,
          summary: `Messages that ${name} is to send later, the next first`,
          querystring: Type.Object(
            {
              token: Type.Optional(
                Type.String({ minLength: 1, maxLength: 200, pattern: PRINTABLE })
              ),
              ...PageQuery
            },
            { additionalProperties: false }
          ),
          response: { 200: Page(Scheduled) }
        }
      },
      async (asked) => {
        const { token, cursor, limit = DEFAULT_LIMIT } = asked.query
        const hidden = maskFor(asked, mask)
        const [micros, id] = decodeCursor(cursor, CURSOR)?.split(' ') ?? []
        const rows = await listScheduled(
          database,
          token,
          limit + 1,
          micros === undefined ? undefined : { micros, id: id! }
        )
        return toPage(
          rows.map((row) => maskedRow(row, hidden)),
          limit,
          (row) => `${row.micros} ${row.id}`
        )
      }
    )

    app.post(
      `${path}/:id/discard`,
      {
        schema: {
          ...discardSchema,
          tags,
          summary: 'Give up a message that was to be sent later',
          description:
            'It is not sent any more, and can be read under `outbox/discarded` for 30 days. ' +
            '404 when it has been sent, or is about to be.'
        }
      },
      async (asked) => {
        const { id } = asked.params
        const { reason } = asked.body
        const messageId = await discardScheduled(
          database,
          id,
          reason,
          log,
          auditOf(asked, { reason })
        )
        if (messageId === undefined) throw notFound(`message ${id} to be sent later by ${name}`)
        return { id, messageId, status: 'discarded' as const }
      }
    )
  }
}
