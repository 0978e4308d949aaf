import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { Database } from '../messaging/postgres/database.ts'
import { nullable } from '../messaging/message/nullable.ts'
import { agesOf, sentenceOf } from '../saga/explain/ages.ts'
import type { SagaExplainer } from '../saga/explain/explainer.ts'
import { askAll, type Colleague } from './colleagues.ts'

const Count = Type.Integer()
const Ages = Type.Object({
  states: Type.Array(
    Type.Object({
      state: Type.String(),
      counts: Type.Object({
        '<10s': Count,
        '<1m': Count,
        '<10m': Count,
        '<1h': Count,
        older: Count
      }),
      p95Ms: nullable(
        Type.Integer({
          description: 'Of a hundred, 95 have left it within so long; null: too few to tell'
        })
      ),
      late: Type.Integer({ description: 'That have waited longer than that' })
    })
  ),
  atLeast: Type.Boolean({ description: 'There may be more: not all were looked at' }),
  sentence: Type.String()
})

/** How long instances have waited, for whoever looks at all of them. */
export function agesRoutes(
  database: Database,
  explainer: SagaExplainer,
  colleagues: readonly Colleague[]
): FastifyPluginAsyncTypebox {
  const { definition, usual } = explainer
  return async (app) => {
    app.get(
      '/ages',
      {
        schema: {
          permission: 'saga:read',
          tags: ['saga'],
          summary: 'How many instances wait, by state and by how long they have',
          description:
            'Since their last step, or since they are stuck. Of more than 100,000 with a timer as many are looked at; of those without one, the newest 100,000.',
          querystring: Type.Object({}, { additionalProperties: false }),
          response: { 200: Ages }
        }
      },
      async (asked) => {
        const [ages, answered] = await Promise.all([
          usual.byState().then((known) => agesOf(database, definition, known)),
          askAll(colleagues, { ids: [] }, asked)
        ])
        return { ...ages, sentence: sentenceOf(ages.states, definition, answered, new Date()) }
      }
    )
  }
}
