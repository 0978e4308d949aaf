import type { Database } from '../messaging/postgres/database.ts'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { isUtf8 } from 'node:buffer'
import Type from 'typebox'
import { DELETED_DAYS } from '../messaging/dead-letters/deleted.ts'
import {
  groupDeadLetters,
  listDeadLetters,
  listDeletedLetters,
  LOST_AFTER_MINUTES,
  readDeadLetter,
  readDeletedLetter,
  type DeadLetterDetail
} from '../messaging/dead-letters/list.ts'
import type { GroupRetries } from '../messaging/dead-letters/group-retries.ts'
import { NotAllowed } from '../messaging/dead-letters/known-letter.ts'
import type { DeadLetterOffice } from '../messaging/dead-letters/office.ts'
import { InvalidEdit } from '../messaging/dead-letters/edit.ts'
import { groupId, noteOn, notesOn } from '../messaging/dead-letters/notes.ts'
import { transaction } from '../messaging/postgres/sql.ts'
import { auditOf, nameOf } from './audit.ts'
import { csvOnRequest } from './csv.ts'
import { linkTo } from './links.ts'
import { maskFor, maskForLetter } from './mask-for.ts'
import { MASK, type Mask } from '../messaging/message/sensitive.ts'
import { nullable } from '../messaging/message/nullable.ts'
import { decodeCursor, DEFAULT_LIMIT, Page, PageQuery, toPage } from './page.ts'
import { HttpProblem, notFound } from './problem.ts'
import { PRINTABLE, text } from './text.ts'
import { timeOf } from './time.ts'

/** Of a payload in an answer; GET …/payload has all of it. */
const SHOWN_BYTES = 64 * 1024
/** Letters a second in a group retry, when the request does not say. */
const PER_SECOND = 20

const Text = text(300)
const Time = Type.String({ format: 'date-time' })

const Filter = {
  kind: Type.Optional(
    Type.Enum(['error', 'skipped'], {
      description: 'error: could not be handled; skipped: no handler takes its type'
    })
  ),
  type: Type.Optional(
    text(300, 'Contract name, such as OrderCreatedEvent; its URN finds the same')
  ),
  exception: Type.Optional(Text),
  reason: Type.Optional(text(300, 'A part of the reason, in any case')),
  messageId: Type.Optional(Text),
  correlationId: Type.Optional(Text),
  from: Type.Optional({ ...Time, description: 'Last seen at this time or later' }),
  to: Type.Optional({ ...Time, description: 'Last seen before this time' })
}
const Status = Type.Enum(['waiting', 'retrying', 'handled', 'undone'], {
  description:
    'waiting: for an operator; retrying: sent back, no outcome yet; handled: after all; undone: what it belongs to was undone'
})
const Why = Type.String({
  minLength: 1,
  maxLength: 500,
  pattern: PRINTABLE,
  description: 'Why, for those who read the audit'
})
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
  retryingSince: nullable(
    Type.String({
      description: `When it was sent back, while it is retrying. If nothing is heard of it for ${LOST_AFTER_MINUTES} minutes, it may be sent back again, or deleted`
    })
  ),
  bytes: Type.Integer()
})

const Detail = Type.Object({
  ...Summary.properties,
  stack: nullable(Type.String()),
  attempts: Type.Array(Type.Object({ at: Type.String(), error: Type.String() }), {
    description: 'The first and the last tries to handle it'
  }),
  attemptsLeftOut: Type.Integer({ description: 'Tries in between that were not kept' }),
  headers: Type.Record(Type.String(), Type.Unknown()),
  contentType: nullable(Type.String()),
  payload: Type.String({
    description: `At most ${SHOWN_BYTES} bytes; the route …/payload gives all of them`
  }),
  payloadEncoding: Type.Enum(['utf8', 'base64'])
})

const Deleted = { deletedAt: Type.String(), why: nullable(Type.String()) }

const Group = Type.Object({
  id: Type.String({ description: 'Of its type and exception, for notes' }),
  note: nullable(
    Type.Object({
      note: Type.String(),
      by: nullable(Type.String()),
      at: Type.String(),
      resolvedAt: nullable(Type.String())
    })
  ),
  cameBack: Type.Boolean({ description: 'It was called resolved, and has newer letters' }),
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
  left: Type.Integer({
    description: 'Letters that fit and were not sent; of one that was stopped, when it was'
  }),
  atLeast: Type.Boolean({ description: 'There may be more left: not all letters were looked at' }),
  sent: Type.Integer(),
  handled: Type.Integer(),
  failedAgain: Type.Integer(),
  underWay: Type.Integer({ description: 'Sent, no outcome yet' }),
  lost: Type.Integer({
    description: `Sent, and for ${LOST_AFTER_MINUTES} minutes nothing was heard of them`
  }),
  startedAt: Type.String(),
  endedAt: nullable(Type.String())
})

const Retried = Type.Object({
  id: Type.Integer(),
  messageId: nullable(Type.String()),
  status: Type.Literal('retrying'),
  warning: Type.Optional(Type.String())
})

const Undone = Type.Object({
  id: Type.Integer(),
  status: Type.Literal('undone'),
  sent: Type.Array(Type.Object({ type: Type.String(), messageId: Type.String() })),
  others: Type.Array(Type.Integer(), {
    description: 'Ids of other letters that are undone with it'
  })
})

const ById = Type.Object({ id: Type.String({ pattern: '^[0-9]{1,15}$' }) })
const tags = ['dead letters']

export interface DeadLetterRouteOptions {
  /** Name of the service. */
  name: string
  database: Database
  office: DeadLetterOffice
  groups: GroupRetries
  /** How long the service's inbox remembers what was handled. */
  inboxDays: number
  /** What of payloads and headers is not for everybody. */
  mask: Mask
}

/** The dead letters of one service: to look at, to send back, to delete. */
export function deadLetterRoutes({
  name,
  database,
  office,
  groups,
  inboxDays,
  mask
}: DeadLetterRouteOptions): FastifyPluginAsyncTypebox {
  const path = `/ops/${name}/dead-letters`
  const missing = (id: string) => notFound(`dead letter ${id} in ${name}`)
  const missingDeleted = (id: string) =>
    notFound(`deleted dead letter ${id} in ${name}: they are kept for ${DELETED_DAYS} days`)

  return async (app) => {
    app.get(
      path,
      {
        onSend: csvOnRequest,
        schema: {
          permission: 'letter:read',
          tags,
          summary: `Messages that ${name} could not handle, newest first`,
          description:
            'A page may have fewer than `limit`, or none, and a `nextCursor`: what fits is looked for among 50,000 at a time.',
          querystring: Type.Object(
            { ...ListFilter, ...PageQuery },
            { additionalProperties: false }
          ),
          response: { 200: Page(Summary) }
        }
      },
      async ({ query: { cursor, limit = DEFAULT_LIMIT, ...filter } }) => {
        const before = decodeCursor(cursor, /^[0-9]{1,15}$/)
        const { items, readOn } = await listDeadLetters(
          database,
          withTimes(filter),
          limit + 1,
          before === undefined ? undefined : Number(before)
        )
        return toPage(
          items,
          limit,
          ({ id }) => String(id),
          readOn === undefined ? undefined : String(readOn)
        )
      }
    )

    app.get(
      `${path}/groups`,
      {
        schema: {
          permission: 'letter:read',
          tags,
          summary: 'How many, by type and exception',
          querystring: Type.Object(ListFilter, { additionalProperties: false }),
          response: {
            200: Type.Object({
              total: Type.Integer(),
              atLeast: Type.Boolean({
                description:
                  'There are older letters that were not looked at: the newest 50,000 are'
              }),
              groups: Type.Array(Group)
            })
          }
        }
      },
      async ({ query }) => {
        const { groups: found, atLeast } = await groupDeadLetters(database, withTimes(query))
        const notes = await notesOn(database, found.map(groupId))
        const noted = found.map((group) => {
          const id = groupId(group)
          const note = notes.get(id) ?? null
          const cameBack = note?.resolvedAt != null && group.newest > note.resolvedAt
          return { id, note, cameBack, ...group }
        })
        return { total: found.reduce((sum, { count }) => sum + count, 0), atLeast, groups: noted }
      }
    )

    app.put(
      `${path}/groups/:group/note`,
      {
        schema: {
          permission: 'saga:note',
          target: 'dead letter group :group',
          tags,
          summary: 'Note something on the letters of one cause, and call it resolved or not',
          params: Type.Object({ group: Type.String({ pattern: '^[0-9a-f]{16}$' }) }),
          body: Type.Object(
            { note: text(2000), resolved: Type.Optional(Type.Boolean()) },
            { additionalProperties: false }
          ),
          response: { 204: Type.Null() }
        }
      },
      async (asked, reply) => {
        const { group } = asked.params
        const { note, resolved = false } = asked.body
        const { groups: all } = await groupDeadLetters(database, {})
        if (!all.some((one) => groupId(one) === group))
          throw notFound(`group ${group} of dead letters in ${name}`)
        const audit = auditOf(asked, { reason: note, status: 204 })
        await transaction(database, async (tx) => {
          await noteOn(tx, group, { note, by: nameOf(asked), resolved })
          audit(tx)
        })
        return reply.code(204).send(null)
      }
    )

    app.post(
      `${path}/:id/edit`,
      {
        schema: {
          permission: 'letter:edit',
          target: 'dead letter :id',
          tags,
          summary: 'Send another body in its place, under a new id',
          description:
            'The body is held to its contract first (422), and must be about the same. The letter counts as handled; should the other message fail, it is a letter of its own. The difference is kept in dead_letter_audit.',
          params: ById,
          body: Type.Object(
            { body: Type.Record(Type.String(), Type.Unknown()), why: Why },
            { additionalProperties: false }
          ),
          response: {
            202: Type.Object({
              id: Type.Integer(),
              messageId: Type.String({ description: 'The new one' }),
              difference: Type.Array(
                Type.Object({
                  path: Type.String(),
                  before: Type.Optional(Type.Unknown()),
                  after: Type.Optional(Type.Unknown())
                })
              )
            })
          }
        }
      },
      async (asked, reply) => {
        const { id } = asked.params
        const { body, why } = asked.body
        const audit = auditOf(asked, { reason: why, status: 202 })
        const made = await allowed(office.edit(Number(id), body, why, audit)).catch(
          (error: unknown) => {
            if (!(error instanceof InvalidEdit)) throw error
            const { field, expected } = error
            throw new HttpProblem(422, error.message, [{ field, expected }])
          }
        )
        if (!made) throw missing(id)
        const letter = maskFor(asked, mask)
        const difference = letter
          ? made.difference.map(({ path: at }) => ({ path: at }))
          : made.difference
        return reply.code(202).send({ id: Number(id), messageId: made.messageId, difference })
      }
    )

    app.get(
      `${path}/:id`,
      {
        schema: {
          permission: 'letter:read',
          tags,
          summary: 'One letter: payload, headers, cause, every attempt',
          params: ById,
          response: { 200: Detail }
        }
      },
      async (asked) => {
        const { id } = asked.params
        const letter = await readDeadLetter(database, Number(id))
        if (!letter) throw missing(id)
        return withText(letter, maskForLetter(asked, mask, letter.kind))
      }
    )

    app.get(
      `${path}/deleted`,
      {
        schema: {
          permission: 'letter:read',
          tags,
          summary: `Deleted letters, kept for ${DELETED_DAYS} days`,
          querystring: Type.Object(PageQuery, { additionalProperties: false }),
          response: { 200: Page(Type.Object({ ...Summary.properties, ...Deleted })) }
        }
      },
      async ({ query: { cursor, limit = DEFAULT_LIMIT } }) => {
        const before = decodeCursor(cursor, /^[0-9]{1,15}$/)
        const letters = await listDeletedLetters(
          database,
          limit + 1,
          before === undefined ? undefined : Number(before)
        )
        return toPage(letters, limit, ({ id }) => String(id))
      }
    )

    app.get(
      `${path}/deleted/:id`,
      {
        schema: {
          permission: 'letter:read',
          tags,
          summary: 'One deleted letter, whole',
          params: ById,
          response: { 200: Type.Object({ ...Detail.properties, ...Deleted }) }
        }
      },
      async (asked) => {
        const { id } = asked.params
        const letter = await readDeletedLetter(database, Number(id))
        if (!letter) throw missingDeleted(id)
        return withText(letter, maskForLetter(asked, mask, letter.kind))
      }
    )

    app.post(
      `${path}/deleted/:id/restore`,
      {
        schema: {
          permission: 'letter:restore',
          target: 'dead letter :id',
          tags,
          summary: 'Bring a deleted letter back, under its id',
          description: '409 when the same message has become a dead letter again since.',
          params: ById,
          response: { 200: Detail }
        }
      },
      async (asked) => {
        const { id } = asked.params
        if (!(await allowed(office.restore(Number(id), auditOf(asked))))) throw missingDeleted(id)
        const letter = await readDeadLetter(database, Number(id))
        if (!letter) throw missing(id)
        return withText(letter, maskForLetter(asked, mask, letter.kind))
      }
    )

    app.get(
      `${path}/:id/payload`,
      {
        schema: {
          permission: 'payload:read',
          tags,
          summary: 'The payload, byte for byte',
          params: ById,
          response: {
            200: {
              description: 'The bytes',
              content: { 'application/octet-stream': { schema: Type.Any() } }
            }
          }
        }
      },
      async ({ params: { id } }, reply) => {
        const letter = await readDeadLetter(database, Number(id))
        if (!letter) throw missing(id)
        return reply
          .type('application/octet-stream')
          .header('content-disposition', `attachment; filename="dead-letter-${id}"`)
          .send(letter.payload)
      }
    )

    app.post(
      `${path}/:id/retry`,
      {
        schema: {
          permission: 'letter:retry',
          target: 'dead letter :id',
          tags,
          summary: 'Send it back to its endpoint, under its message id',
          description: `Whoever has handled the message already will not handle it again: the inbox remembers its id. It gets the immediate retries, and no delayed ones. 409 while it is retrying, for ${LOST_AFTER_MINUTES} minutes at least; when it has ended; and when its endpoint is not one of this service’s.`,
          params: ById,
          querystring: Type.Object({ why: Type.Optional(Why) }, { additionalProperties: false }),
          response: { 202: Retried }
        }
      },
      async (request, reply) => {
        const { id } = request.params
        const audit = auditOf(request, { reason: request.query.why, status: 202 })
        const sent = await allowed(office.retry(Number(id), audit))
        if (!sent) throw missing(id)
        const warnings = [
          ...(sent.lostSince === undefined
            ? []
            : [
                `It was sent back before, at ${sent.lostSince}, and nothing was heard of it: if that copy comes after all, the inbox lets one of the two be handled`
              ]),
          ...(olderThanInbox(sent.firstSeenAt, inboxDays)
            ? [
                `The message is older than the ${inboxDays} days that the inbox remembers: if it was handled before, it is handled again`
              ]
            : [])
        ]
        const warning = warnings.length > 0 ? { warning: warnings.join('. ') } : {}
        return reply
          .code(202)
          .send({ id: Number(id), messageId: sent.messageId, status: 'retrying', ...warning })
      }
    )

    app.delete(
      `${path}/:id`,
      {
        schema: {
          permission: 'letter:delete',
          target: 'dead letter :id',
          tags,
          summary: `Delete it; it is kept for ${DELETED_DAYS} days under …/deleted, and an audit row stays`,
          params: ById,
          querystring: Type.Object({ why: Why }, { additionalProperties: false }),
          response: { 204: Type.Null() }
        }
      },
      async (request, reply) => {
        const { id } = request.params
        const { why } = request.query
        const audit = auditOf(request, { reason: why, status: 204 })
        if (!(await allowed(office.delete(Number(id), why, audit)))) throw missing(id)
        return reply.code(204).send(null)
      }
    )

    app.post(
      `${path}/:id/undo`,
      {
        schema: {
          permission: 'letter:undo',
          target: 'dead letter :id',
          tags,
          summary: 'Undo what it belongs to, when the saga of that id is gone for ever',
          description:
            'For letters like “no order saga …”, after a database has forgotten: the command that undoes each effect of the saga is sent for that id. ' +
            'Other letters of the same id, and those that the answers become, are `undone` with it. 409 when the saga is there, or has no effects.',
          params: ById,
          body: Type.Object(
            { reason: text(500) },
            {
              additionalProperties: false,
              examples: [{ reason: 'the order was lost with the old primary' }]
            }
          ),
          response: { 202: Undone }
        }
      },
      async (request, reply) => {
        const { id } = request.params
        const { reason } = request.body
        const audit = auditOf(request, { reason, status: 202 })
        const undone = await allowed(office.undo(Number(id), reason, audit))
        if (!undone) throw missing(id)
        const sent = undone.sent.map(({ contract, messageId }) => ({
          type: contract.name,
          messageId
        }))
        return reply
          .code(202)
          .send({ id: Number(id), status: 'undone', sent, others: undone.others })
      }
    )

    app.post(
      `${path}/retry`,
      {
        schema: {
          permission: 'letter:retry',
          target: 'dead letters',
          tags,
          summary: 'Send back all that wait and fit',
          description:
            'The first five go alone; when three letters have failed again, and more than were handled, it stops. Follow it under `Location`.',
          body: Type.Object(
            {
              ...Filter,
              why: Why,
              perSecond: Type.Optional(
                Type.Integer({
                  minimum: 1,
                  maximum: 1000,
                  description: `Letters a second, ${PER_SECOND} when not given`
                })
              )
            },
            {
              additionalProperties: false,
              examples: [{ type: 'StockReservedEvent', why: 'the gateway is back', perSecond: 20 }]
            }
          ),
          response: {
            202: {
              ...Type.Object({ ...Retry.properties, warning: Type.Optional(Type.String()) }),
              headers: { location: { type: 'string' } }
            }
          }
        }
      },
      async (request, reply) => {
        const { perSecond = PER_SECOND, why, ...given } = request.body
        const filter = withTimes(given)
        const oldest = await office.oldest(filter)
        const id = await groups.begin(
          filter,
          perSecond,
          auditOf(request, { reason: why, status: 202 })
        )
        const warning =
          oldest !== undefined && olderThanInbox(oldest, inboxDays)
            ? {
                warning: `The oldest is older than the ${inboxDays} days that the inbox remembers: what was handled before is handled again`
              }
            : {}
        return reply
          .code(202)
          .header('location', linkTo(app, `${path}/retries/${id}`))
          .send({ ...(await groups.get(id))!, ...warning })
      }
    )

    app.get(
      `${path}/retries`,
      {
        schema: {
          permission: 'letter:read',
          tags,
          summary: 'Group retries, newest first',
          response: { 200: Type.Object({ items: Type.Array(Retry) }) }
        }
      },
      async () => ({ items: await groups.list(DEFAULT_LIMIT) })
    )

    app.get(
      `${path}/retries/:id`,
      {
        schema: {
          permission: 'letter:read',
          tags,
          summary: 'How a group retry goes',
          params: ById,
          response: { 200: Retry }
        }
      },
      async ({ params: { id } }) => {
        const retry = await groups.get(Number(id))
        if (!retry) throw notFound(`group retry ${id} in ${name}`)
        return retry
      }
    )

    app.post(
      `${path}/retries/:id/stop`,
      {
        schema: {
          permission: 'letter:retry',
          target: 'group retry :id',
          tags,
          summary: 'Stop a group retry; what is under way goes on',
          params: ById,
          body: Type.Object({ why: Why }, { additionalProperties: false }),
          response: { 200: Retry }
        }
      },
      async (asked) => {
        const { id } = asked.params
        const { why } = asked.body
        const said = `stopped by ${nameOf(asked) ?? 'an operator'}: ${why}`
        const stopped = await groups.end(Number(id), said, auditOf(asked, { reason: why }))
        const retry = await groups.get(Number(id))
        if (!retry) throw notFound(`group retry ${id} in ${name}`)
        if (!stopped) throw new HttpProblem(409, `Group retry ${id} is ${retry.state} already`)
        return retry
      }
    )
  }
}

function withText<L extends DeadLetterDetail>(letter: L, hidden: Mask | 'all' | undefined) {
  if (hidden === 'all')
    return { ...letter, headers: {}, payload: MASK, payloadEncoding: 'utf8' as const }
  return hidden ? masked(letter, hidden) : whole(letter)
}

function masked<L extends DeadLetterDetail>(letter: L, hidden: Mask) {
  const { payload, headers } = letter
  const shown = isUtf8(payload) ? hidden.ofText(payload.toString().replace(/^\uFEFF/, '')) : MASK
  return {
    ...letter,
    headers: hidden.of(headers),
    payload: Buffer.from(shown).subarray(0, SHOWN_BYTES).toString(),
    payloadEncoding: 'utf8' as const
  }
}

function whole<L extends DeadLetterDetail>(letter: L) {
  const shown = letter.payload.subarray(0, SHOWN_BYTES)
  const isText = isUtf8(letter.payload)
  return {
    ...letter,
    payload: isText ? shown.toString() : shown.toString('base64'),
    payloadEncoding: isText ? ('utf8' as const) : ('base64' as const)
  }
}

function withTimes<F extends { from?: string; to?: string }>(filter: F): F {
  const { from, to } = filter
  return {
    ...filter,
    ...(from && { from: timeOf('from', from) }),
    ...(to && { to: timeOf('to', to) })
  }
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
