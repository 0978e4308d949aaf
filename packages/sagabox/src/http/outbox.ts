import type { Database } from '../messaging/postgres/database.ts'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { Log } from '../messaging/async/log.ts'
import {
  discardRow,
  listDiscarded,
  listPutOff,
  readDiscarded
} from '../messaging/outbox/discard.ts'
import type { Mask } from '../messaging/message/sensitive.ts'
import { discardSchema } from './discard.ts'
import { nullable } from '../messaging/message/nullable.ts'
import { auditOf } from './audit.ts'
import { maskedRow, maskFor } from './mask-for.ts'
import { decodeCursor, DEFAULT_LIMIT, Page, PageQuery, toPage } from './page.ts'
import { PRINTABLE } from './text.ts'
import { HttpProblem, notFound } from './problem.ts'

const Row = {
  id: Type.String(),
  messageId: Type.String(),
  destination: Type.String(),
  required: Type.Boolean(),
  putOff: Type.String({
    description:
      'failed: this message alone could not be sent; else why its destination takes nothing'
  }),
  reason: nullable(Type.String({ description: 'What the last try met' })),
  attempts: Type.Integer(),
  createdAt: Type.String(),
  bytes: Type.Integer({ description: 'Of the whole payload' }),
  contentType: nullable(Type.String({ description: 'null: an envelope of MassTransit' })),
  payload: Type.String({ description: 'Its beginning' }),
  payloadEncoding: Type.Enum(['utf8', 'base64'])
}
const Discarded = { ...Row, discardReason: Type.String(), discardedAt: Type.String() }
const Detail = {
  ...Discarded,
  payload: Type.String(),
  headers: nullable(Type.Record(Type.String(), Type.Unknown()))
}

const ById = Type.Object({ id: Type.String({ pattern: '^[0-9]{1,15}$' }) })
const tags = ['operations']

export interface OutboxRouteOptions {
  /** Name of the service. */
  name: string
  database: Database
  log: Log
  /** What of payloads and headers is not for everybody. */
  mask: Mask
}

/** What waits in one service's outbox because nobody takes it: to look at, and to give up. */
export function outboxRoutes({
  name,
  database,
  log,
  mask
}: OutboxRouteOptions): FastifyPluginAsyncTypebox {
  const path = `/ops/${name}/outbox`

  return async (app) => {
    app.get(
      `${path}/rows`,
      {
        schema: {
          permission: 'outbox:read',
          tags,
          summary: `Messages of ${name} that no queue takes, by destination, the oldest first`,
          querystring: Type.Object(
            {
              destination: Type.Optional(
                Type.String({
                  minLength: 1,
                  maxLength: 255,
                  pattern: PRINTABLE,
                  description: 'An exchange'
                })
              ),
              ...PageQuery
            },
            { additionalProperties: false }
          ),
          response: { 200: Page(Type.Object(Row)) }
        }
      },
      async (asked) => {
        const { destination, cursor, limit = DEFAULT_LIMIT } = asked.query
        const hidden = maskFor(asked, mask)
        const [, id, after] =
          /^([0-9]{1,15}) (.*)$/s.exec(decodeCursor(cursor, /^[0-9]{1,15} [^\0]*$/) ?? '') ?? []
        const rows = await listPutOff(
          database,
          destination,
          limit + 1,
          id === undefined ? undefined : { id, destination: after! }
        )
        return toPage(
          rows.map((row) => maskedRow(row, hidden)),
          limit,
          (row) => `${row.id} ${row.destination}`
        )
      }
    )

    app.post(
      `${path}/rows/:id/discard`,
      {
        schema: {
          ...discardSchema,
          tags,
          summary: 'Give up a message that no queue takes',
          description:
            'It is not sent any more, and can be read under `discarded` for 30 days. ' +
            'What it was to bring about does not happen. 409 while the relay is about to send it.'
        }
      },
      async (asked) => {
        const { id } = asked.params
        const { reason } = asked.body
        const discard = await discardRow(database, id, reason, log, auditOf(asked, { reason }))
        if (discard.outcome === 'unknown') throw notFound(`row ${id} in the outbox of ${name}`)
        if (discard.outcome !== 'discarded')
          throw new HttpProblem(
            409,
            `Row ${id} is not put off: it is being sent, or will be when it is due. ` +
              'Ask again when it is in the list of rows'
          )
        return { id, messageId: discard.messageId, status: 'discarded' as const }
      }
    )

    app.get(
      `${path}/discarded`,
      {
        schema: {
          permission: 'outbox:read',
          tags,
          summary: `Messages of ${name} that were given up, newest first; kept for 30 days`,
          querystring: Type.Object(PageQuery, { additionalProperties: false }),
          response: { 200: Page(Type.Object(Discarded)) }
        }
      },
      async (asked) => {
        const { cursor, limit = DEFAULT_LIMIT } = asked.query
        const hidden = maskFor(asked, mask)
        const before = decodeCursor(cursor, /^[0-9]{1,15}$/)
        const rows = await listDiscarded(database, limit + 1, before)
        return toPage(
          rows.map((row) => maskedRow(row, hidden)),
          limit,
          ({ key }) => key
        )
      }
    )

    app.get(
      `${path}/discarded/:id`,
      {
        schema: {
          permission: 'outbox:read',
          tags,
          summary: 'One of them, with its whole payload and headers',
          params: ById,
          response: { 200: Type.Object(Detail) }
        }
      },
      async (asked) => {
        const { id } = asked.params
        const row = await readDiscarded(database, id)
        if (!row) throw notFound(`discarded row ${id} in ${name}`)
        return maskedRow(row, maskFor(asked, mask))
      }
    )
  }
}
