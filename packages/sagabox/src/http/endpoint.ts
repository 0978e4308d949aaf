import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { nullable } from '../messaging/message/nullable.ts'
import type { Audit } from '../messaging/postgres/audit.ts'
import { auditOf } from './audit.ts'
import { bodyWithReason } from './reason.ts'

/** What an operator can do with the endpoint of a service in this process. */
export interface Pausable {
  name: string
  paused(): { since: string; reason: string } | undefined
  pause(reason: string): Promise<void>
  resume(): void
  /** Writes down what is done here, which no transaction does. */
  writeDown(audit: Audit): Promise<void>
}

const Status = Type.Object({
  status: Type.Enum(['running', 'paused']),
  since: nullable(Type.String({ description: 'When it was paused' })),
  reason: nullable(Type.String({ description: 'Why it was paused' }))
})
const tags = ['operations']

/** One service's endpoint: how it is, pause and resume. */
export function endpointRoutes({
  name,
  paused,
  pause,
  resume,
  writeDown
}: Pausable): FastifyPluginAsyncTypebox {
  const path = `/ops/${name}/endpoint`
  const status = () => {
    const { since = null, reason = null } = paused() ?? {}
    return { status: since === null ? ('running' as const) : ('paused' as const), since, reason }
  }
  return async (app) => {
    app.get(
      path,
      {
        schema: {
          permission: 'outbox:read',
          tags,
          summary: `Whether the endpoint of ${name} takes messages in this process`,
          response: { 200: Status }
        }
      },
      async () => status()
    )

    app.post(
      `${path}/pause`,
      {
        schema: {
          permission: 'endpoint:pause',
          target: `endpoint ${name}`,
          tags,
          summary: `Have the endpoint of ${name} take no messages`,
          description:
            'What it is handling is finished, the rest goes back to the queue and waits there. ' +
            'It holds for this process, until it is resumed or started again: other copies go on. ' +
            'Routes, timers and what the service sends go on, too.',
          body: bodyWithReason('Why, for those who look at /health/ready'),
          response: { 200: Status }
        }
      },
      async (asked) => {
        const { reason } = asked.body
        // Before it: what cannot be written down is not done.
        await writeDown(auditOf(asked, { reason }))
        await pause(reason)
        return status()
      }
    )

    app.post(
      `${path}/resume`,
      {
        schema: {
          permission: 'endpoint:pause',
          target: `endpoint ${name}`,
          tags,
          summary: `Have the endpoint of ${name} take messages again`,
          response: { 200: Status }
        }
      },
      async (asked) => {
        await writeDown(auditOf(asked))
        resume()
        return status()
      }
    )
  }
}
