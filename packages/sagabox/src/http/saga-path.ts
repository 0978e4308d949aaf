import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { nullable } from '../messaging/message/nullable.ts'
import type { Mask } from '../messaging/message/sensitive.ts'
import type { UsualStays } from '../saga/explain/usual.ts'
import type { SagaInspector } from '../saga/inspect/inspect.ts'
import { MOST_PATH_STEPS } from '../saga/inspect/path.ts'
import { maskFor } from './mask-for.ts'
import { notFound } from './problem.ts'
import { instanceParams } from './saga-key.ts'

const Usual = Type.Object({
  p50Ms: Type.Integer(),
  p95Ms: Type.Integer(),
  of: Type.Integer({ description: 'Stays that this is told from' })
})

const Path = Type.Object({
  state: Type.String(),
  steps: Type.Array(
    Type.Object({
      sequence: Type.Integer(),
      at: Type.String(),
      msInState: nullable(
        Type.Integer({ description: 'In `to` before the next step, or until now; null: at an end' })
      ),
      event: Type.String(),
      messageId: nullable(Type.String()),
      from: nullable(Type.String()),
      to: Type.String(),
      sent: Type.Array(Type.Object({ type: Type.String(), messageId: Type.String() })),
      context: nullable(
        Type.Record(Type.String(), Type.Unknown(), {
          description:
            'What it knew then, as today’s machine tells it, fields of 8,000 bytes in all; null: the machine that made the step is not here'
        })
      ),
      leftOut: Type.Integer({ description: 'Fields of the context that were too long' }),
      changed: Type.Array(
        Type.Object({
          path: Type.String(),
          before: Type.Optional(Type.Unknown()),
          after: Type.Optional(Type.Unknown())
        }),
        { description: 'Longer values as the beginning of their JSON' }
      ),
      note: nullable(Type.String())
    })
  ),
  stepsBefore: nullable(
    Type.Integer({ description: 'There are earlier steps: ask again with this `before`' })
  ),
  reachable: Type.Array(Type.String(), { description: 'States that it can still come to' }),
  timer: nullable(
    Type.Object(
      { at: Type.String(), to: Type.String() },
      { description: 'Its first timer, and where that leads' }
    )
  ),
  usual: Type.Record(Type.String(), Usual, {
    description: 'How long the last thousand instances stayed in each state; kept for 30 s'
  })
})

/** The way that an instance has gone, for whoever follows it step by step. */
export function pathRoutes(
  inspector: SagaInspector,
  usual: UsualStays,
  mask: Mask
): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/:sagaId/path',
      {
        schema: {
          permission: 'saga:read',
          tags: ['saga'],
          summary: 'Its steps, with what it knew at each, and where it can still come to',
          description: `Its last ${MOST_PATH_STEPS} steps; earlier ones with \`before\`. The events are folded through today’s machine from the first step on.`,
          ...instanceParams(inspector.definition),
          querystring: Type.Object(
            {
              before: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 })),
              limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MOST_PATH_STEPS }))
            },
            { additionalProperties: false }
          ),
          response: { 200: Path }
        }
      },
      async (asked) => {
        const { sagaId } = asked.params
        const path = await inspector.path(sagaId, asked.query, maskFor(asked, mask))
        if (!path) throw notFound(`saga ${sagaId}`)
        return { ...path, usual: Object.fromEntries(await usual.byState()) }
      }
    )
  }
}
