import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { nullable } from '../messaging/message/nullable.ts'
import type { SagaExplainer } from '../saga/explain/explainer.ts'
import { askAll, type Colleague } from './colleagues.ts'
import { notFound } from './problem.ts'
import { instanceParams } from './saga-key.ts'

const Explanation = Type.Object({
  sentence: Type.String({ description: 'Why it does not move, and what happens if nothing comes' }),
  severity: Type.Enum(['ok', 'waiting', 'problem']),
  finding: Type.Enum(
    [
      'ended',
      'noMachine',
      'deadLetter',
      'inOutbox',
      'putOff',
      'answerInOutbox',
      'silent',
      'nowhere',
      'deferred',
      'timer'
    ],
    { description: 'The first of these that is true' }
  ),
  evidence: Type.Array(
    Type.Object({
      text: Type.String(),
      service: Type.Optional(Type.String()),
      messageId: Type.Optional(Type.String()),
      letterId: Type.Optional(Type.Integer()),
      at: Type.Optional(Type.String())
    })
  ),
  suggestions: Type.Array(
    Type.Object({
      text: Type.String(),
      action: Type.Optional(Type.Enum(['retry', 'cancel', 'letter'])),
      target: Type.Optional(Type.String({ description: 'A path of this API' }))
    })
  ),
  others: Type.Object({
    count: Type.Integer({
      description:
        'Others in the state, where it can be told only those that have been there longer than 95 of 100; among 100,000'
    }),
    state: Type.String()
  }),
  next: nullable(
    Type.Object(
      { at: Type.String(), to: Type.String(), sends: Type.Array(Type.String()) },
      { description: 'What its first timer brings; null: it has none' }
    )
  )
})

const Messages = Type.Object({
  messages: Type.Array(
    Type.Object({
      messageId: Type.String(),
      contract: Type.String(),
      kind: nullable(Type.String()),
      from: nullable(Type.String({ description: 'The service that sends it' })),
      to: Type.Array(Type.String(), { description: 'Services that take it' }),
      sentAt: Type.String({ description: 'When its id was made' }),
      causedBy: nullable(
        Type.String({
          description:
            'The message that it follows from; of what others sent, the last before it that they take'
        })
      ),
      hops: Type.Array(
        Type.Object({
          service: Type.String(),
          state: Type.String({
            description:
              'outbox, broker, scheduled, discarded, putOff, handled, deadLetter; unknown: the service did not answer, or has forgotten'
          }),
          at: Type.String(),
          waitedMs: Type.Integer({
            description: 'From when it was sent until it was here, or now'
          }),
          error: nullable(Type.String()),
          letterId: nullable(Type.Integer())
        })
      )
    }),
    { description: 'At most a hundred, the last ones and the first' }
  ),
  unknown: Type.Array(Type.String(), { description: 'Services that did not answer' })
})

/** Why instances do not move: for whoever is woken by one. */
export function explanationRoutes(
  explainer: SagaExplainer,
  colleagues: readonly Colleague[]
): FastifyPluginAsyncTypebox {
  const ById = instanceParams(explainer.definition)
  return async (app) => {
    app.get(
      '/:sagaId/explanation',
      {
        schema: {
          permission: 'saga:read',
          tags: ['saga'],
          summary: 'Why it does not move, in one sentence',
          description:
            'Its messages are looked for in the outbox of their sender, and in the inbox and among the dead letters of whoever it waits for; a service that does not answer within 2 s is unknown.',
          ...ById,
          response: { 200: Explanation }
        }
      },
      async (asked) => {
        const { sagaId } = asked.params
        const found = await explainer.explain(sagaId, (question) =>
          askAll(colleagues, question, asked)
        )
        if (!found) throw notFound(`saga ${sagaId}`)
        return found
      }
    )

    app.get(
      '/:sagaId/messages',
      {
        schema: {
          permission: 'saga:read',
          tags: ['saga'],
          summary: 'Its messages over all services, with the wait at each hop',
          ...ById,
          response: { 200: Messages }
        }
      },
      async (asked) => {
        const { sagaId } = asked.params
        const found = await explainer.messages(sagaId, (question) =>
          askAll(colleagues, question, asked)
        )
        if (!found) throw notFound(`saga ${sagaId}`)
        return found
      }
    )
  }
}
