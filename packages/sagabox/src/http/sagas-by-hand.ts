import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { auditOf, nameOf } from './audit.ts'
import { notFound } from './problem.ts'
import { idOfKey } from '../messaging/message/correlation.ts'
import { instanceParams } from './saga-key.ts'
import type { Outbox } from '../messaging/outbox/outbox.ts'
import type { Audit } from '../messaging/postgres/audit.ts'
import type { Tx } from '../messaging/postgres/sql.ts'
import { answer, drop, place, type MovedByHand } from '../saga/run/by-hand.ts'
import type { SagaHost } from '../saga/run/host.ts'
import { moveForRequest } from './request.ts'

const tags = ['saga']
const Name = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^\\u0000]+$' })
const Reason = Type.String({
  minLength: 1,
  maxLength: 500,
  pattern: '^[^\\u0000]*[^\\u0000\\s][^\\u0000]*$',
  description: 'Why; the history shows it'
})
const Version = Type.Integer({ minimum: 1, description: '409 when the instance is at another' })
const Data = Type.Record(Type.String(), Type.Unknown())
const closed = { additionalProperties: false }

const Moved = Type.Object({
  sagaId: Type.String(),
  state: Type.String(),
  version: Type.Integer({ description: 'Recorded steps' }),
  sent: Type.Array(Type.Object({ type: Type.String(), messageId: Type.String() }))
})

/** What a person may do to an instance that does not get on by itself. */
export function byHandRoutes(host: SagaHost, outbox: Outbox): FastifyPluginAsyncTypebox {
  const ById = instanceParams(host.definition)
  const target = `${host.definition.name} saga :sagaId`
  const moved = async (
    sagaId: string,
    audit: Audit,
    move: (tx: Tx) => Promise<MovedByHand | undefined>
  ) => {
    const found = await moveForRequest(outbox, async (tx) => {
      const done = await move(tx)
      if (done) audit(tx)
      return done
    })
    if (!found) throw notFound(`saga ${sagaId}`)
    const { state, version, messages } = found
    const sent = messages.map(({ contract, messageId }) => ({ type: contract.name, messageId }))
    return { sagaId: idOfKey(sagaId), state, version, sent }
  }

  return async (app) => {
    app.post(
      '/:sagaId/answer',
      {
        schema: {
          permission: 'saga:answer',
          target,
          tags,
          summary: 'Supply an event that may never come, or fire a timer now',
          description:
            'One of `accepts` of the instance: a message with its body (the id is filled in), a request, or `after …`. It counts as if it had happened; the history has it with the reason. 409 with the events possible now when the state does not take it, as after it was answered already.',
          ...ById,
          body: Type.Object(
            {
              event: Name,
              body: Type.Optional(Data),
              reason: Reason,
              version: Type.Optional(Version)
            },
            closed
          ),
          response: { 200: Moved }
        }
      },
      (request) => {
        const { sagaId } = request.params
        const given = { ...request.body, by: nameOf(request) }
        const audit = auditOf(request, given)
        return moved(sagaId, audit, (tx) => answer(host, tx, sagaId, given))
      }
    )

    app.post(
      '/:sagaId/migrate',
      {
        schema: {
          permission: 'saga:migrate',
          target,
          tags,
          summary:
            'Bring an instance that no machine can move, or whose machine fails, to a state of today’s machine',
          description:
            'The way out when `answer` does not help. `context` names the fields that change. The timers of the state run; nothing is sent: `retry` sends what the state waits for. The history has it as a step `migrate` with the reason.',
          ...ById,
          body: Type.Object(
            { state: Name, context: Type.Optional(Data), version: Version, reason: Reason },
            closed
          ),
          response: { 200: Moved }
        }
      },
      (request) => {
        const { sagaId } = request.params
        const given = { ...request.body, by: nameOf(request) }
        const audit = auditOf(request, given)
        return moved(sagaId, audit, (tx) => place(host, tx, sagaId, given))
      }
    )

    app.post(
      '/:sagaId/drop-deferred',
      {
        schema: {
          permission: 'saga:migrate',
          target,
          tags,
          summary: 'Drop an event that an instance keeps for another state',
          description:
            'The first of its name, or the one of `messageId`. The history has it as a step `drop deferred` with the reason.',
          ...ById,
          body: Type.Object(
            {
              event: Name,
              messageId: Type.Optional(Type.String({ format: 'uuid' })),
              reason: Reason,
              version: Type.Optional(Version)
            },
            closed
          ),
          response: { 200: Moved }
        }
      },
      (request) => {
        const { sagaId } = request.params
        const given = { ...request.body, by: nameOf(request) }
        const audit = auditOf(request, given)
        return moved(sagaId, audit, (tx) => drop(host, tx, sagaId, given))
      }
    )
  }
}
