import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { UUID } from '../messaging/message/id.ts'
import { MOST_IDS } from '../messaging/trace/trace.ts'
import type { Colleague } from './colleagues.ts'
import { HttpProblem } from './problem.ts'
import { Report } from './report-schema.ts'

/** Of a list of MOST_IDS ids with commas, characters. */
const LONGEST_IDS = MOST_IDS * 37

/** Where one service has messages: for those who follow one through all services. */
export function messageRoutes({ name, report }: Colleague): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      `/ops/${name}/messages`,
      {
        schema: {
          permission: 'letter:read',
          tags: ['operations'],
          summary: `Where ${name} has messages, and when it last handled anything`,
          description:
            'In its outbox, its inbox, among its dead letters. Of an outbox of millions, the oldest and the newest 50,000 are looked through.',
          querystring: Type.Object(
            {
              ids: Type.Optional(
                Type.String({
                  maxLength: LONGEST_IDS,
                  description: `Message ids with commas between them, at most ${MOST_IDS}`
                })
              ),
              about: Type.Optional(
                Type.String({
                  format: 'uuid',
                  description: 'A saga’s id: also its messages that wait or failed'
                })
              )
            },
            { additionalProperties: false }
          ),
          response: { 200: Report }
        }
      },
      async ({ query: { ids = '', about } }) =>
        report({ ids: idsIn(ids), about: about?.toLowerCase() }, undefined)
    )
  }
}

/** @throws HttpProblem 400 that names the field */
function idsIn(text: string): string[] {
  const ids = text === '' ? [] : text.split(',')
  const wrong = ids.find((id) => !UUID.test(id))
  if (wrong === undefined && ids.length <= MOST_IDS) return ids.map((id) => id.toLowerCase())
  throw new HttpProblem(400, "The request's query is not valid", [
    {
      field: 'ids',
      expected: `must be at most ${MOST_IDS} message ids, UUIDs, with commas between them`
    }
  ])
}
