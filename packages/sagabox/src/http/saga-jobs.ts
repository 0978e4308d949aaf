import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { nullable } from '../messaging/message/nullable.ts'
import type { Outbox } from '../messaging/outbox/outbox.ts'
import { idOfKey } from '../messaging/message/correlation.ts'
import { statesOf } from '../saga/define.ts'
import { pathOfNode } from '../saga/machine/states.ts'
import { answer } from '../saga/run/by-hand.ts'
import type { SagaHost } from '../saga/run/host.ts'
import { MOST_INSTANCES, type SagaJobs } from '../saga/run/jobs.ts'
import { allVersions } from '../saga/run/versions.ts'
import { auditOf, nameOf } from './audit.ts'
import { linkTo } from './links.ts'
import { HttpProblem, notFound } from './problem.ts'
import { bodyWithReason } from './reason.ts'
import { moveForRequest } from './request.ts'
import { instanceParams } from './saga-key.ts'
import { text } from './text.ts'

const MOST_IDS = 1000
/** Jobs of a list. */
const LISTED = 50

const Job = Type.Object({
  id: Type.Integer(),
  action: Type.Enum(['retry', 'cancel']),
  filter: Type.Object({
    state: Type.Optional(Type.String()),
    stuck: Type.Optional(Type.Boolean()),
    ids: Type.Optional(Type.Array(Type.String()))
  }),
  reason: Type.String(),
  by: nullable(Type.String()),
  stopAfterFailures: Type.Integer(),
  state: Type.Enum(['running', 'done', 'stopped']),
  stoppedWhy: nullable(Type.String()),
  step: Type.Enum(['1', '5', '20', 'rest'], {
    description: 'The next begins when it is known how all of this one went'
  }),
  total: Type.Integer(),
  atLeast: Type.Boolean({ description: `More fitted than ${MOST_INSTANCES}: begin another job` }),
  waiting: Type.Integer({ description: 'Whose turn has not come' }),
  underWay: Type.Integer({ description: 'Commands were sent again; they have not moved yet' }),
  moved: Type.Integer(),
  failed: Type.Integer(),
  failures: Type.Array(Type.Object({ sagaId: Type.String(), error: Type.String() }), {
    description: 'The first twenty'
  }),
  startedAt: Type.String(),
  endedAt: nullable(Type.String())
})

const ById = Type.Object({ id: Type.String({ pattern: '^[0-9]{1,15}$' }) })
const tags = ['saga']

/** What is done to many instances, and the cancelling of one. */
export function jobRoutes(
  host: SagaHost,
  jobs: SagaJobs,
  outbox: Outbox
): FastifyPluginAsyncTypebox {
  const { definition } = host
  const { name, cancelBy } = definition
  const paths = allVersions(definition).flatMap(({ machine }) =>
    statesOf(machine.root).slice(1).map(pathOfNode)
  )
  const Filter = Type.Object(
    {
      state: Type.Optional(
        Type.Enum([...new Set(paths)], { description: 'A state, or one around it' })
      ),
      stuck: Type.Optional(Type.Boolean()),
      ids: Type.Optional(
        Type.Array(Type.String({ format: 'uuid' }), { minItems: 1, maxItems: MOST_IDS })
      )
    },
    { additionalProperties: false, minProperties: 1 }
  )

  return async (app) => {
    app.post(
      '/jobs',
      {
        schema: {
          permission: 'saga:retry',
          target: `${name} saga jobs`,
          tags,
          summary: 'Retry or cancel all that fit: one, five, twenty, then the rest',
          description:
            'The instances that fit now, at most 10,000. Each step waits until it is known how the one before went: an instance that is retried has moved, or has not within 60 s. It goes on when the process restarts, and in one process at a time.',
          body: Type.Object(
            {
              action: Type.Enum(['retry', 'cancel']),
              filter: Filter,
              reason: text(500, 'Why; the history of each shows it'),
              stopAfterFailures: Type.Optional(
                Type.Integer({ minimum: 1, maximum: MOST_INSTANCES, description: '1 unless given' })
              )
            },
            { additionalProperties: false }
          ),
          response: { 202: Job }
        }
      },
      async (asked, reply) => {
        const { action, filter, reason, stopAfterFailures = 1 } = asked.body
        if (action === 'cancel') mustBeAllowed(asked.may('saga:cancel'), name, cancelBy)
        const by = nameOf(asked)
        const audit = auditOf(asked, { reason, status: 202 })
        const id = await jobs.begin({ action, filter, reason, by, stopAfterFailures }, audit)
        return reply
          .code(202)
          .header('location', linkTo(app, `/sagas/${name}/jobs/${id}`))
          .send((await jobs.get(id))!)
      }
    )

    app.get(
      '/jobs',
      {
        schema: {
          permission: 'saga:read',
          tags,
          summary: `The last ${LISTED} jobs, newest first`,
          response: { 200: Type.Object({ items: Type.Array(Job) }) }
        }
      },
      async () => ({ items: await jobs.list(LISTED) })
    )

    app.get(
      '/jobs/:id',
      {
        schema: {
          permission: 'saga:read',
          tags,
          summary: 'How a job goes',
          params: ById,
          response: { 200: Job }
        }
      },
      async ({ params: { id } }) => {
        const job = await jobs.get(Number(id))
        if (!job) throw notFound(`job ${id} of ${name}`)
        return job
      }
    )

    app.post(
      '/jobs/:id/stop',
      {
        schema: {
          permission: 'saga:stop',
          target: `${name} saga job :id`,
          tags,
          summary: 'End a job; what was done stays done',
          params: ById,
          body: bodyWithReason('Why, as the job shows it'),
          response: { 200: Job }
        }
      },
      async (asked) => {
        const { id } = asked.params
        const { reason } = asked.body
        const ended = await jobs.end(Number(id), reason, auditOf(asked, { reason }))
        const job = await jobs.get(Number(id))
        if (!job) throw notFound(`job ${id} of ${name}`)
        if (!ended) throw new HttpProblem(409, `Job ${id} is ${job.state} already`)
        return job
      }
    )

    if (cancelBy !== undefined)
      app.post(
        '/:sagaId/cancel',
        {
          schema: {
            permission: 'saga:cancel',
            target: `${name} saga :sagaId`,
            tags,
            summary: `Cancel it, as its saga says: by ${cancelBy}`,
            description: '409 with the events possible now when its state does not take it.',
            ...instanceParams(definition),
            body: bodyWithReason('Why; the history shows it'),
            response: { 200: Type.Object({ sagaId: Type.String(), state: Type.String() }) }
          }
        },
        async (asked) => {
          const { sagaId } = asked.params
          const given = { event: cancelBy, reason: asked.body.reason, by: nameOf(asked) }
          const audit = auditOf(asked, given)
          const moved = await moveForRequest(outbox, async (tx) => {
            const done = await answer(host, tx, sagaId, given)
            if (done) audit(tx)
            return done
          })
          if (!moved) throw notFound(`saga ${sagaId}`)
          return { sagaId: idOfKey(sagaId), state: moved.state }
        }
      )
  }
}

function mustBeAllowed(may: boolean, saga: string, cancelBy: string | undefined): void {
  if (!may) throw new HttpProblem(403, 'You may retry instances, and not cancel them (saga:cancel)')
  if (cancelBy === undefined)
    throw new HttpProblem(
      409,
      `The saga ${saga} does not say by which event an instance is cancelled: expected cancelBy`
    )
}
