import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { isUtf8 } from 'node:buffer'
import Type from 'typebox'
import type { DataSource } from 'typeorm'
import { groupDeadLetters, listDeadLetters, listDeleted, readDeadLetter } from '../messaging/dead-letter-list.ts'
import { LOST_MINUTES, NotAllowed, type DeadLetterOffice } from '../messaging/dead-letter-retry.ts'
import type { Message } from '../messaging/message.ts'
import type { Tx } from '../messaging/sql.ts'
import { linkTo } from './links.ts'
import { nullable } from './nullable.ts'
import { decodeCursor, DEFAULT_LIMIT, Page, PageQuery, toPage } from './page.ts'
import { HttpProblem, notFound } from './problem.ts'
import { PRINTABLE, text } from './text.ts'
import { timeOf } from './time.ts'

/** Of a payload in an answer; GET …/payload has all of it. */
const SHOWN_BYTES = 64 * 1024
/** Letters a second in a group retry, when the request does not say. */
const PER_SECOND = 20

const Text = text(300)
const Reason = Type.Object({ reason: text(500, 'For the audit') }, { additionalProperties: false })
const Time = Type.String({ format: 'date-time' })

const Filter = {
  kind: Type.Optional(Type.Enum(['error', 'skipped'], { description: 'error: could not be handled; skipped: no handler takes its type' })),
  type: Type.Optional(text(300, 'Contract name, such as OrderCreatedEvent')),
  exception: Type.Optional(Text),
  reason: Type.Optional(text(300, 'A part of the reason, in any case')),
  messageId: Type.Optional(Text),
  correlationId: Type.Optional(Text),
  from: Type.Optional({ ...Time, description: 'Last seen at this time or later' }),
  to: Type.Optional({ ...Time, description: 'Last seen before this time' })
}
const Status = Type.Enum(['waiting', 'retrying', 'handled'], { description: 'waiting: for an operator; retrying: sent back, no outcome yet; handled: after all' })
const ListFilter = { ...Filter, status: Type.Optional(Status) }

const Summary = Type.Object({
  id: Type.Integer(),
  endpoint: Type.String(),
  kind: Type.String(),
  status: Type.String(),
  messageId: nullable(Type.String()),
  type: nullable(Type.String()),
  correlationId: nullable(Type.String()),
  exception: Type.String(),
  reason: Type.String(),
  seen: Type.Integer({ description: 'How often it became a dead letter' }),
  firstSeenAt: Type.String(),
  lastSeenAt: Type.String(),
  bytes: Type.Integer(),
  retryingSince: nullable(Type.String({ description: `While it is being retried; ${LOST_MINUTES} minutes later it may be retried or deleted again` }))
})

const Deleted = Type.Object({ ...Type.Omit(Summary, ['status', 'retryingSince']).properties, why: nullable(Type.String()), deletedAt: Type.String() })

const Detail = Type.Object({
  ...Summary.properties,
  stack: nullable(Type.String()),
  attempts: Type.Array(Type.Object({ at: Type.String(), error: Type.String() }), { description: 'Every try to handle it' }),
  headers: Type.Record(Type.String(), Type.Unknown()),
  contentType: nullable(Type.String()),
  payload: Type.String({ description: `At most ${SHOWN_BYTES} bytes; the route …/payload gives all of them` }),
  payloadEncoding: Type.Enum(['utf8', 'base64'])
})

const Group = Type.Object({
  kind: Type.String(),
  status: Type.String(),
  type: nullable(Type.String()),
  exception: Type.String(),
  count: Type.Integer(),
  oldest: Type.String(),
  newest: Type.String(),
  reason: Type.String({ description: 'The newest of the reasons' })
})

const Retry = Type.Object({
  id: Type.Integer(),
  filter: Type.Object(Filter),
  perSecond: Type.Integer(),
  state: Type.Enum(['running', 'done', 'stopped']),
  reason: nullable(Type.String({ description: 'Why it was stopped' })),
  left: Type.Integer({ description: 'Letters that fit and were not sent' }),
  sent: Type.Integer(),
  handled: Type.Integer(),
  failedAgain: Type.Integer(),
  underWay: Type.Integer({ description: 'Sent, no outcome yet' }),
  lost: Type.Integer({ description: `Sent more than ${LOST_MINUTES} minutes ago, and no outcome: the message may be gone` }),
  startedAt: Type.String(),
  endedAt: nullable(Type.String())
})

const Retried = Type.Object({ id: Type.Integer(), messageId: nullable(Type.String()), status: Type.Literal('retrying'), warning: Type.Optional(Type.String()) })

const ById = Type.Object({ id: Type.String({ pattern: '^[0-9]{1,15}$' }) })
const tags = ['dead letters']

export interface DeadLetterRouteOptions {
  /** Name of the service. */
  name: string
  dataSource: DataSource
  office: DeadLetterOffice
  /** What undoes all that was done for an instance that is not there; undefined when it is. Absent: there is nothing to undo. */
  undo?(tx: Tx, correlationId: string): Promise<Message[] | undefined>
  /** How long the service's inbox remembers what was handled. */
  inboxDays: number
}

/** The dead letters of one service: to look at, to send back, to delete. */
export function deadLetterRoutes({ name, dataSource, office, undo, inboxDays }: DeadLetterRouteOptions): FastifyPluginAsyncTypebox {
  const path = `/ops/${name}/dead-letters`
  const missing = (id: string) => notFound(`dead letter ${id} in ${name}`)

  return async (app) => {
    app.get(
      path,
      {
        schema: { tags, summary: `Messages that ${name} could not handle, newest first`, querystring: Type.Object({ ...ListFilter, ...PageQuery }, { additionalProperties: false }), response: { 200: Page(Summary) } }
      },
      async ({ query: { cursor, limit = DEFAULT_LIMIT, ...filter } }) => {
        const before = decodeCursor(cursor, /^[0-9]{1,15}$/)
        const { letters, readOn } = await listDeadLetters(dataSource, withTimes(filter), limit + 1, before === undefined ? undefined : Number(before))
        return toPage(letters, limit, ({ id }) => String(id), readOn === undefined ? undefined : String(readOn))
      }
    )

    app.get(
      `${path}/groups`,
      { schema: { tags, summary: 'How many, by type and exception', querystring: Type.Object(ListFilter, { additionalProperties: false }), response: { 200: Type.Object({ total: Type.Integer(), groups: Type.Array(Group), since: nullable(Type.String({ description: 'Letters that were first seen before are not counted; null: all are' })) }) } } },
      async ({ query }) => {
        const { groups, since } = await groupDeadLetters(dataSource, withTimes(query))
        return { total: groups.reduce((sum, { count }) => sum + count, 0), groups, since }
      }
    )

    app.get(
      `${path}/deleted`,
      { schema: { tags, summary: 'Letters that were deleted in the last 30 days, newest first', querystring: Type.Object(PageQuery, { additionalProperties: false }), response: { 200: Page(Deleted) } } },
      async ({ query: { cursor, limit = DEFAULT_LIMIT } }) => {
        const before = decodeCursor(cursor, /^[0-9]{1,15}$/)
        return toPage(await listDeleted(dataSource, limit + 1, before === undefined ? undefined : Number(before)), limit, ({ id }) => String(id))
      }
    )

    app.post(`${path}/deleted/:id/restore`, { schema: { tags, summary: 'Bring a deleted letter back', description: '409 when its message has become a dead letter again since.', params: ById, response: { 200: Summary } } }, async ({ params: { id } }) => {
      if (!(await allowed(office.restore(Number(id))))) throw notFound(`deleted dead letter ${id} in ${name}`)
      return (await readDeadLetter(dataSource, Number(id)))!
    })

    if (undo) {
      app.post(
        `${path}/:id/undo`,
        {
          schema: {
            tags,
            summary: 'Undo what was done for an instance that is gone',
            description: 'For a message whose saga is not there, and never will be: the commands that undo its effects are sent for its id, and the letter counts as handled. 409 when the instance is there.',
            params: ById,
            body: Reason,
            response: { 202: Type.Object({ id: Type.Integer(), status: Type.Literal('handled'), sent: Type.Array(Type.Object({ type: Type.String(), messageId: Type.String() })) }) }
          }
        },
        async ({ params: { id }, body: { reason } }, reply) => {
          const sent = await allowed(office.undo(Number(id), reason, undo))
          if (!sent) throw missing(id)
          return reply.code(202).send({ id: Number(id), status: 'handled', sent: sent.map(({ contract, messageId }) => ({ type: contract.name, messageId })) })
        }
      )
    }

    app.get(`${path}/:id`, { schema: { tags, summary: 'One letter: payload, headers, cause, every attempt', params: ById, response: { 200: Detail } } }, async ({ params: { id } }) => {
      const letter = await readDeadLetter(dataSource, Number(id))
      if (!letter) throw missing(id)
      const shown = letter.payload.subarray(0, SHOWN_BYTES)
      const isText = isUtf8(letter.payload)
      return { ...letter, payload: isText ? shown.toString() : shown.toString('base64'), payloadEncoding: isText ? ('utf8' as const) : ('base64' as const) }
    })

    app.get(`${path}/:id/payload`, { schema: { tags, summary: 'The payload, byte for byte', params: ById, response: { 200: { description: 'The bytes', content: { 'application/octet-stream': { schema: Type.Any() } } } } } }, async ({ params: { id } }, reply) => {
      const letter = await readDeadLetter(dataSource, Number(id))
      if (!letter) throw missing(id)
      return reply.type('application/octet-stream').header('content-disposition', `attachment; filename="dead-letter-${id}"`).send(letter.payload)
    })

    app.post(
      `${path}/:id/retry`,
      {
        schema: {
          tags,
          summary: 'Send it back to its endpoint, under its message id',
          description: 'Whoever has handled the message already will not handle it again: the inbox remembers its id. It gets the immediate retries, and no delayed ones.',
          params: ById,
          response: { 202: Retried }
        }
      },
      async ({ params: { id } }, reply) => {
        const sent = await allowed(office.retry(Number(id)))
        if (!sent) throw missing(id)
        const warning = olderThanInbox(sent.firstSeenAt, inboxDays) ? { warning: `The message is older than the ${inboxDays} days that the inbox remembers: if it was handled before, it is handled again` } : {}
        return reply.code(202).send({ id: Number(id), messageId: sent.messageId, status: 'retrying', ...warning })
      }
    )

    app.delete(
      `${path}/:id`,
      { schema: { tags, summary: 'Delete it; for 30 days it can be brought back', params: ById, querystring: Type.Object({ why: Type.Optional(Type.String({ maxLength: 500, pattern: PRINTABLE })) }, { additionalProperties: false }), response: { 204: Type.Null() } } },
      async ({ params: { id }, query: { why } }, reply) => {
        if (!(await allowed(office.delete(Number(id), why)))) throw missing(id)
        return reply.code(204).send(null)
      }
    )

    app.post(
      `${path}/retry`,
      {
        schema: {
          tags,
          summary: 'Send back all that wait and fit',
          description: 'The first five go alone; when three letters have failed again, and more than were handled, it stops. Follow it under `Location`.',
          body: Type.Object({ ...Filter, perSecond: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, description: `Letters a second, ${PER_SECOND} when not given` })) }, { additionalProperties: false, examples: [{ type: 'StockReservedEvent', perSecond: 20 }] }),
          response: { 202: { ...Type.Object({ ...Retry.properties, warning: Type.Optional(Type.String()) }), headers: { location: { type: 'string' } } } }
        }
      },
      async ({ body: { perSecond = PER_SECOND, ...given } }, reply) => {
        const filter = withTimes(given)
        const oldest = await office.oldest(filter)
        const id = await office.retryGroup(filter, perSecond)
        const warning = oldest !== undefined && olderThanInbox(oldest, inboxDays) ? { warning: `The oldest is older than the ${inboxDays} days that the inbox remembers: what was handled before is handled again` } : {}
        return reply.code(202).header('location', linkTo(app, `${path}/retries/${id}`)).send({ ...(await office.groupRetry(id))!, ...warning })
      }
    )

    app.get(`${path}/retries`, { schema: { tags, summary: 'Group retries, newest first', response: { 200: Type.Object({ items: Type.Array(Retry) }) } } }, async () => ({ items: await office.groupRetries(DEFAULT_LIMIT) }))

    app.get(`${path}/retries/:id`, { schema: { tags, summary: 'How a group retry goes', params: ById, response: { 200: Retry } } }, async ({ params: { id } }) => {
      const retry = await office.groupRetry(Number(id))
      if (!retry) throw notFound(`group retry ${id} in ${name}`)
      return retry
    })

    app.post(`${path}/retries/:id/stop`, { schema: { tags, summary: 'Stop a group retry; what is under way goes on', params: ById, response: { 200: Retry } } }, async ({ params: { id } }) => {
      const stopped = await office.stopGroup(Number(id))
      const retry = await office.groupRetry(Number(id))
      if (!retry) throw notFound(`group retry ${id} in ${name}`)
      if (!stopped) throw new HttpProblem(409, `Group retry ${id} is ${retry.state} already`)
      return retry
    })
  }
}

function withTimes<F extends { from?: string; to?: string }>(filter: F): F {
  const { from, to } = filter
  return { ...filter, ...(from && { from: timeOf('from', from) }), ...(to && { to: timeOf('to', to) }) }
}

/** @throws HttpProblem 409 when the letter's state does not allow it */
function allowed<R>(work: Promise<R>): Promise<R> {
  return work.catch((error: unknown) => {
    throw error instanceof NotAllowed ? new HttpProblem(409, error.message) : error
  })
}

function olderThanInbox(time: string, inboxDays: number): boolean {
  return Date.now() - Date.parse(time) > inboxDays * 86_400_000
}
