import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { decodeCursor, DEFAULT_LIMIT, Page, PageQuery, toPage } from '../http/page.ts'
import { notFound, problemResponse } from '../http/problem.ts'
import { UUID } from '../messaging/envelope.ts'
import { describe } from './diagram.ts'
import type { SagaInspector } from './inspect.ts'
import { statusOf } from './step.ts'

const Summary = Type.Object({
  sagaId: Type.String(),
  status: Type.String({ description: 'The top-level state' }),
  state: Type.String({ description: 'The active state as a path' }),
  version: Type.Integer({ description: 'Recorded steps' }),
  createdAt: Type.String(),
  updatedAt: Type.String()
})

const Detail = Type.Object({
  ...Summary.properties,
  context: Type.Record(Type.String(), Type.Unknown()),
  accepts: Type.Array(Type.String(), { description: 'Events that the current state takes' }),
  timers: Type.Array(Type.Object({ event: Type.String(), dueAt: Type.String() })),
  history: Type.Array(
    Type.Object({
      sequence: Type.Integer(),
      event: Type.String(),
      messageId: Type.Union([Type.String(), Type.Null()]),
      from: Type.Union([Type.String(), Type.Null()]),
      to: Type.String(),
      sent: Type.Array(Type.Object({ type: Type.String(), messageId: Type.String() })),
      at: Type.String()
    })
  )
})

const ReplayResult = Type.Object({
  consistent: Type.Boolean({ description: 'Today’s machine arrives where the instance is stored' }),
  steps: Type.Integer(),
  state: Type.String(),
  firstDifference: Type.Union([Type.Object({ sequence: Type.Integer(), what: Type.String(), recorded: Type.Unknown(), replayed: Type.Unknown() }), Type.Null()])
})

const Definition = Type.Object({
  name: Type.String(),
  states: Type.Array(Type.String()),
  events: Type.Array(Type.String()),
  transitions: Type.Array(Type.Object({ from: Type.String(), event: Type.String(), to: Type.String() })),
  mermaid: Type.String()
})

const ById = { params: Type.Object({ sagaId: Type.String({ format: 'uuid' }) }) }
const tags = ['saga']

/** The inspection API of one saga. */
export function sagaRoutes(inspector: SagaInspector): FastifyPluginAsyncTypebox {
  const { definition } = inspector
  const description = { name: definition.name, ...describe(definition) }
  const statuses = [...new Set(description.states.map(statusOf))]

  return async (app) => {
    app.get(
      '/sagas',
      {
        schema: {
          tags,
          summary: 'Saga instances, newest first',
          querystring: Type.Object({ state: Type.Optional(Type.Enum([...statuses, ...description.states], { description: 'A state, or a top-level state for all inside it' })), ...PageQuery }, { additionalProperties: false }),
          response: { 200: Page(Summary), '4xx': problemResponse }
        }
      },
      async ({ query: { state, cursor, limit = DEFAULT_LIMIT } }) => {
        const rows = await inspector.list({ state: state, before: decodeCursor(cursor, UUID), limit: limit + 1 })
        return toPage(rows, limit, (row) => row.sagaId)
      }
    )

    app.get(
      '/sagas/summary',
      { schema: { tags, summary: 'How many instances rest in each state', response: { 200: Type.Object({ byState: Type.Record(Type.String(), Type.Integer()) }, { additionalProperties: Type.Integer() }) } } },
      async () => {
        const byState = await inspector.countByState()
        const counts = Object.fromEntries(statuses.map((status) => [status, 0]))
        for (const [state, count] of Object.entries(byState)) counts[statusOf(state)] = (counts[statusOf(state)] ?? 0) + count
        return { ...counts, byState }
      }
    )

    app.get(`/sagas/definitions/${definition.name}`, { schema: { tags, summary: 'The machine: states, events and a Mermaid diagram', response: { 200: Definition } } }, async () => description)

    app.get('/sagas/:sagaId', { schema: { tags, summary: 'One instance with its whole history', ...ById, response: { 200: Detail, '4xx': problemResponse } } }, async ({ params: { sagaId } }) => {
      const found = await inspector.get(sagaId)
      if (!found) throw notFound(`saga ${sagaId}`)
      return found
    })

    app.get(
      '/sagas/:sagaId/replay',
      { schema: { tags, summary: 'Folds the recorded events through today’s machine', ...ById, response: { 200: ReplayResult, '4xx': problemResponse } } },
      async ({ params: { sagaId } }) => {
        const result = await inspector.replay(sagaId)
        if (!result) throw notFound(`saga ${sagaId}`)
        return result
      }
    )
  }
}
