import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { OutboxStatus } from '../messaging/outbox/status.ts'
import { nullable } from '../messaging/message/nullable.ts'

/** What an operator can ask about a service. */
export interface Operated {
  name: string
  /** What keeps the service from working, by part; asks the database. */
  check(): Promise<Record<string, string | undefined>>
  /** What keeps it from nothing and should be known. */
  notes(): Record<string, string>
  outboxStatus(): Promise<OutboxStatus>
}

const Readiness = Type.Object({
  status: Type.Enum(['ready', 'unavailable']),
  services: Type.Optional(
    Type.Record(Type.String(), Type.Record(Type.String(), Type.String()), {
      description:
        'For those who may `health:read`. `ok`, or what is wrong, for each part of each service; `endpoints`: which endpoints of other processes have never been started; `paused`: since when and why its endpoint takes no messages'
    })
  )
})

const tags = ['operations']

/** Whether the process lives and works. */
export function healthRoutes(services: readonly Operated[]): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/health/live',
      {
        schema: {
          permission: 'public',
          tags,
          summary: 'The process runs',
          response: { 200: Type.Object({ status: Type.Literal('live') }) }
        }
      },
      async () => ({ status: 'live' as const })
    )

    app.get(
      '/health/ready',
      {
        schema: {
          permission: 'public',
          tags,
          summary: 'Every part of every service works, or why not',
          response: { 200: Readiness, 503: Readiness }
        }
      },
      async (request, reply) => {
        const checks = await Promise.all(
          services.map(
            async (service) => [service.name, await service.check(), service.notes()] as const
          )
        )
        const ready = checks.every(([, parts]) =>
          Object.values(parts).every((problem) => problem === undefined)
        )
        const status = ready ? ('ready' as const) : ('unavailable' as const)
        void reply.code(ready ? 200 : 503)
        if (!request.may('health:read')) return reply.send({ status })
        return reply.send({
          status,
          services: Object.fromEntries(
            checks.map(([name, parts, notes]) => {
              const told = Object.entries(parts).map(([part, problem]) => [part, problem ?? 'ok'])
              return [name, { ...Object.fromEntries(told), ...notes }]
            })
          )
        })
      }
    )
  }
}

/** Health of the process and the outboxes of its services. */
export function operationRoutes(services: readonly Operated[]): FastifyPluginAsyncTypebox {
  return async (app) => {
    await app.register(healthRoutes(services))
    for (const { name, outboxStatus } of services) {
      app.get(
        `/ops/${name}/outbox`,
        {
          schema: {
            permission: 'outbox:read',
            tags,
            summary: `Messages that ${name} has committed and not yet sent`,
            response: {
              200: Type.Object({
                pending: Type.Integer({ description: 'Exact up to 100,000' }),
                atLeast: Type.Boolean({ description: 'There are more than `pending` says' }),
                postponed: Type.Integer({ description: 'Of these, not due yet' }),
                scheduled: Type.Integer({
                  description:
                    'To be sent later, and not among `pending`; counted up to 100,000. GET …/outbox/scheduled lists them'
                }),
                nextDueAt: nullable(
                  Type.String({ description: 'When the first of them is to be sent' })
                ),
                oldestAgeSeconds: Type.Number(),
                leader: nullable(
                  Type.Object(
                    {
                      application: Type.String(),
                      address: nullable(Type.String()),
                      since: Type.String()
                    },
                    { description: 'The database connection of the process that sends' }
                  )
                ),
                lastError: nullable(Type.String()),
                putOff: Type.Array(
                  Type.Object({
                    destination: Type.String(),
                    rows: Type.Integer({ description: 'Exact up to 10,000' }),
                    atLeast: Type.Boolean({ description: 'There are more than `rows` says' }),
                    reason: nullable(Type.String()),
                    oldestAgeSeconds: Type.Number()
                  }),
                  { description: 'Messages that no queue takes now; GET …/outbox/rows lists them' }
                )
              })
            }
          }
        },
        outboxStatus
      )
    }
  }
}
