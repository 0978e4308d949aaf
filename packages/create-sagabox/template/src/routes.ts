import { randomUUID } from 'node:crypto'
import type { FastifyPluginAsync } from 'fastify'
import { Type, type Outbox } from 'sagabox'
import { PUBLIC } from 'sagabox/fastify'
import { ParcelRequested } from './messages.ts'

const Body = Type.Object(
  { address: Type.String({ minLength: 1, maxLength: 200 }) },
  { additionalProperties: false }
)

/** `POST /parcels`: what a client is answered is committed. */
export function requestRoutes(outbox: Outbox): FastifyPluginAsync {
  return async (app) => {
    app.post<{ Body: { address: string } }>(
      '/parcels',
      { schema: { permission: PUBLIC, body: Body } },
      async ({ body: { address } }, reply) => {
        const parcelId = randomUUID()
        await outbox.transaction(async (tx) =>
          outbox.add(tx, [ParcelRequested({ parcelId, address })])
        )
        return reply.code(202).send({ parcelId })
      }
    )
  }
}
