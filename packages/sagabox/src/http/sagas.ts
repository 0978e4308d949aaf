import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { nullable } from '../messaging/message/nullable.ts'
import { auditOf, nameOf } from './audit.ts'
import { csvOnRequest } from './csv.ts'
import { decodeCursor, DEFAULT_LIMIT, Page, PageQuery, toPage } from './page.ts'
import { HttpProblem, notFound } from './problem.ts'
import { text } from './text.ts'
import { maskFor } from './mask-for.ts'
import { timeOf } from './time.ts'
import type { Mask } from '../messaging/message/sensitive.ts'
import { idOfKey } from '../messaging/message/correlation.ts'
import { UUID } from '../messaging/message/id.ts'
import type { Outbox } from '../messaging/outbox/outbox.ts'
import { instanceParams, mustBeKey } from './saga-key.ts'
import { byHandRoutes } from './sagas-by-hand.ts'
import { describe } from '../saga/inspect/diagram.ts'
import { ExportDesk } from './export-desk.ts'
import type { SagaDefinition } from '../saga/define.ts'
import type { SagaHost } from '../saga/run/host.ts'
import { MOST_STEPS, type SagaInspector } from '../saga/inspect/inspect.ts'
import { Recording } from '../saga/store/recording.ts'
import { moveForRequest } from './request.ts'
import { statusOf } from '../saga/machine/state.ts'
import { allVersions, versionOf } from '../saga/run/versions.ts'

const Summary = Type.Object({
  sagaId: Type.String(),
  key: Type.Optional(
    Type.String({ description: 'What its messages call it, where that is not its id' })
  ),
  status: Type.String({ description: 'The top-level state' }),
  state: Type.String({ description: 'The active state as a path' }),
  version: Type.Integer({ description: 'Recorded steps' }),
  machineVersion: Type.Integer({ description: 'Version of the machine that moves it' }),
  createdAt: Type.String(),
  updatedAt: Type.String(),
  stuckSince: nullable(
    Type.String({ description: 'When a deadline passed without bringing another state' })
  )
})

const Waiting = Type.Object(
  {
    events: Type.Array(Type.String(), { description: 'Messages that would move it' }),
    commands: Type.Array(Type.String(), {
      description: 'Commands whose answers these are; a retry sends them again'
    }),
    since: Type.String(),
    attempts: Type.Integer({ description: 'How often the commands were sent since then' }),
    lastError: nullable(
      Type.Object({ at: Type.String(), message: Type.String(), type: nullable(Type.String()) })
    )
  },
  { description: 'null at an end' }
)

const Sent = Type.Array(Type.Object({ type: Type.String(), messageId: Type.String() }))

const Detail = Type.Object({
  ...Summary.properties,
  context: Type.Record(Type.String(), Type.Unknown()),
  accepts: Type.Array(Type.String(), { description: 'Events that the current state takes' }),
  timers: Type.Array(
    Type.Object({ id: Type.String(), event: Type.String(), dueAt: Type.String() })
  ),
  waitingFor: nullable(Waiting),
  deferred: Type.Array(
    Type.Object({
      event: Type.String(),
      messageId: nullable(Type.String()),
      since: nullable(
        Type.String({ description: 'null: kept by version 0.1, which did not note it' })
      )
    }),
    { description: 'Events that came too early and wait for another state' }
  ),
  historyBefore: nullable(
    Type.Integer({ description: 'There are earlier steps: ask again with this `before`' })
  ),
  history: Type.Array(
    Type.Object({
      sequence: Type.Integer(),
      event: Type.String(),
      messageId: nullable(Type.String()),
      from: nullable(Type.String()),
      to: Type.String(),
      sent: Sent,
      machineVersion: Type.Integer({ description: 'Version of the machine that made the step' }),
      note: nullable(
        Type.String({
          description:
            'What became of an event that was not handled at once, e.g. `ignored: already completed`'
        })
      ),
      at: Type.String()
    })
  )
})

const ReplayResult = Type.Object({
  consistent: Type.Boolean({ description: 'Today’s machine arrives where the instance is stored' }),
  steps: Type.Integer(),
  unknownVersions: Type.Integer({
    description: 'Steps made by versions of the machine that are not here, and taken as recorded'
  }),
  state: Type.String(),
  firstDifference: nullable(
    Type.Object({
      sequence: Type.Integer(),
      what: Type.String(),
      recorded: Type.Unknown(),
      replayed: Type.Unknown()
    })
  )
})

const Definition = Type.Object({
  name: Type.String(),
  version: Type.Integer({ description: 'Of the machine; that of a new instance' }),
  states: Type.Array(Type.String()),
  events: Type.Array(Type.String()),
  transitions: Type.Array(
    Type.Object({ from: Type.String(), event: Type.String(), to: Type.String() })
  ),
  mermaid: Type.String()
})

const Counts = Type.Object(
  {
    stuck: Type.Integer(),
    byState: Type.Record(Type.String(), Type.Integer()),
    endedSince: nullable(
      Type.String({
        description:
          'Instances that were created before, and have ended, are not counted; null: all are'
      })
    )
  },
  { additionalProperties: Type.Integer({ description: 'For each top-level state' }) }
)

const HistoryWindow = Type.Object(
  {
    before: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1, description: 'Only steps before this one' })
    ),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: MOST_STEPS, description: 'How many steps at most' })
    )
  },
  { additionalProperties: false }
)

const Why = text(500, 'Why; the history shows it')

const tags = ['saga']

/** `stuckSince_sagaId`, the time in ms since 1970: what a list of stuck instances goes on after. */
const STUCK_CURSOR = /^\d{1,13}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** The sagas of a process: their names, and the machine of each. */
export function definitionRoutes(
  definitions: readonly SagaDefinition[]
): FastifyPluginAsyncTypebox {
  const machines = definitions.map((definition) => ({
    name: definition.name,
    version: versionOf(definition),
    ...describe(definition)
  }))
  return async (app) => {
    app.get(
      '/sagas/definitions',
      {
        schema: {
          permission: 'saga:read',
          tags,
          summary: 'The sagas of this process',
          response: {
            200: Type.Object({
              items: Type.Array(Type.Object({ name: Type.String(), version: Type.Integer() }))
            })
          }
        }
      },
      async () => ({ items: machines.map(({ name, version }) => ({ name, version })) })
    )
    for (const machine of machines)
      app.get(
        `/sagas/definitions/${machine.name}`,
        {
          schema: {
            permission: 'saga:read',
            tags,
            summary: 'The machine: states, events and a Mermaid diagram',
            response: { 200: Definition }
          }
        },
        async () => machine
      )
  }
}

/**
 * The inspection API of one saga, and what an operator may do to an instance.
 * @param mask what of contexts and bodies is not for everybody
 * @param more routes of the same saga
 */
export function sagaRoutes(
  inspector: SagaInspector,
  host: SagaHost,
  outbox: Outbox,
  mask: Mask,
  more: readonly FastifyPluginAsyncTypebox[] = []
): FastifyPluginAsyncTypebox {
  const { definition } = inspector
  const states = [
    ...new Set(allVersions(definition).flatMap((version) => describe(version).states))
  ]
  const statuses = [...new Set(states.map(statusOf))]
  // A state without others inside it is its own top-level state.
  const StateFilter = Type.Enum([...new Set([...statuses, ...states])], {
    description: 'A state, or a top-level state for all inside it'
  })
  const desk = new ExportDesk()
  const ById = instanceParams(definition)

  return async (app) => {
    app.addHook('preHandler', async ({ params }) => {
      const { sagaId } = params as { sagaId?: string }
      if (sagaId !== undefined) mustBeKey('sagaId', sagaId)
    })
    await app.register(byHandRoutes(host, outbox))
    for (const routes of more) await app.register(routes)

    app.get(
      '',
      {
        onSend: csvOnRequest,
        schema: {
          permission: 'saga:read',
          tags,
          summary: 'Saga instances, newest first',
          description:
            'With a `state`, a page may have fewer than `limit`, or none, and a `nextCursor`: what has ended is looked for among 100,000 at a time.',
          querystring: Type.Object(
            {
              state: Type.Optional(StateFilter),
              key: Type.Optional(
                Type.String({ description: 'Only the instance that its messages call so' })
              ),
              stuck: Type.Optional(
                Type.Literal('true', {
                  description:
                    'Only those that have waited longer than their deadline, stalest first'
                })
              ),
              ...PageQuery
            },
            { additionalProperties: false }
          ),
          response: { 200: Page(Summary) }
        }
      },
      async ({ query: { state, key, stuck, cursor, limit = DEFAULT_LIMIT } }) => {
        if (key !== undefined) {
          mustBeKey('key', key)
          const found = await inspector.find(key, { state, stuck: stuck === 'true' })
          return { items: found ? [found] : [], nextCursor: null }
        }
        if (stuck) {
          const [stuckSince, sagaId] = decodeCursor(cursor, STUCK_CURSOR)?.split('_') ?? []
          const after =
            stuckSince && sagaId
              ? { stuckSince: new Date(Number(stuckSince)).toISOString(), sagaId }
              : undefined
          const found = await inspector.listStuck({ state, after, limit: limit + 1 })
          return toPage(found, limit, (row) => `${Date.parse(row.stuckSince!)}_${row.sagaId}`)
        }
        const { items, readOn } = await inspector.list({
          state,
          before: decodeCursor(cursor, UUID),
          limit: limit + 1
        })
        return toPage(items, limit, (row) => row.sagaId, readOn)
      }
    )

    app.get(
      '/summary',
      {
        schema: {
          permission: 'saga:read',
          tags,
          summary: 'How many instances rest in each state, and how many are stuck',
          description:
            'All that wait are counted; those that have ended, among the newest 100,000.',
          response: { 200: Counts }
        }
      },
      async () => {
        const { byState, stuck, endedSince } = await inspector.count()
        const counts = Object.fromEntries(statuses.map((status) => [status, 0]))
        for (const [state, count] of Object.entries(byState))
          counts[statusOf(state)] = (counts[statusOf(state)] ?? 0) + count
        return { ...counts, stuck, byState, endedSince }
      }
    )

    app.get(
      '/export',
      {
        schema: {
          permission: 'saga:export',
          tags,
          summary: 'Instances with their whole histories, newest first, one JSON object a line',
          querystring: Type.Object(
            {
              state: Type.Optional(StateFilter),
              since: Type.Optional(
                Type.String({
                  format: 'date-time',
                  description: 'Only those that moved at this time or later'
                })
              ),
              limit: Type.Optional(
                Type.Integer({ minimum: 1, description: 'How many at most; all when not given' })
              )
            },
            { additionalProperties: false }
          ),
          description:
            'Two at a time; others get 503. A client that reads less than a page of 256 KiB in 30 s is cut off.',
          response: {
            200: {
              description: 'Streamed: it takes the memory of a page, here and there',
              content: { 'application/x-ndjson': { schema: Recording } }
            }
          }
        }
      },
      async (request, reply) => {
        const { since, ...filter } = request.query
        const asked = { ...filter, ...(since && { since: timeOf('since', since) }) }
        const hidden = maskFor(request, mask)
        const lines = await desk.open(() => inspector.export(asked, hidden), request.raw.socket)
        // The schema is that of one line.
        return reply.type('application/x-ndjson').send(lines as never)
      }
    )

    app.get(
      '/:sagaId',
      {
        schema: {
          permission: 'saga:read',
          tags,
          summary: 'One instance with its history',
          description: 'With its last 1,000 steps; earlier ones with `before`.',
          ...ById,
          querystring: HistoryWindow,
          response: { 200: Detail }
        }
      },
      async (asked) => {
        const { sagaId } = asked.params
        const found = await inspector.get(sagaId, asked.query)
        if (!found) throw notFound(`saga ${sagaId}`)
        const hidden = maskFor(asked, mask)
        return hidden ? { ...found, context: hidden.of(found.context) } : found
      }
    )

    app.get(
      '/:sagaId/replay',
      {
        schema: {
          permission: 'saga:read',
          tags,
          summary: 'Folds the recorded events through today’s machine',
          ...ById,
          response: { 200: ReplayResult }
        }
      },
      async (asked) => {
        const { sagaId } = asked.params
        const result = await inspector.replay(sagaId)
        if (!result) throw notFound(`saga ${sagaId}`)
        return maskFor(asked, mask)?.of(result) ?? result
      }
    )

    app.post(
      '/:sagaId/retry',
      {
        schema: {
          permission: 'saga:retry',
          target: `${definition.name} saga :sagaId`,
          tags,
          summary: 'Send again what an instance waits for',
          description:
            'The commands of its state leave once more, under new ids; the history has it as a step `retry`. 409 when it waits for no command’s answer.',
          ...ById,
          querystring: Type.Object({ why: Type.Optional(Why) }, { additionalProperties: false }),
          response: {
            202: Type.Object({ sagaId: Type.String(), state: Type.String(), sent: Sent })
          }
        }
      },
      async (request, reply) => {
        const { sagaId } = request.params
        const reason = request.query.why
        const by = nameOf(request)
        const byHand = by === undefined && reason === undefined ? undefined : { by, reason }
        const audit = auditOf(request, { reason, status: 202 })
        const retried = await moveForRequest(outbox, async (tx) => {
          const move = await host.retry(tx, sagaId, byHand)
          if (move && move.messages.length > 0) audit(tx)
          return move
        })
        if (!retried) throw notFound(`saga ${sagaId}`)
        const { state, messages } = retried
        const id = idOfKey(sagaId)
        if (messages.length === 0)
          throw new HttpProblem(
            409,
            `Saga ${sagaId} is in ${state} and waits for the answer to no command: there is nothing to send again`
          )
        return reply.code(202).send({
          sagaId: id,
          state,
          sent: messages.map(({ contract, messageId }) => ({ type: contract.name, messageId }))
        })
      }
    )
  }
}
