import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import type { Contract } from '../messaging/message/message.ts'
import { nullable } from '../messaging/message/nullable.ts'
import type { SagaDefinition } from '../saga/define.ts'
import { sendsOf } from '../saga/machine/sends.ts'
import { acceptedEvents, restingStates } from '../saga/machine/states.ts'
import { draw, type Picture } from '../saga/picture/layout.ts'
import { versionOf } from '../saga/run/versions.ts'

const Point = Type.Object({ x: Type.Number(), y: Type.Number() })
const Drawn = Type.Object({
  saga: Type.String(),
  version: Type.Integer(),
  width: Type.Number({ description: 'Of the picture, px' }),
  height: Type.Number(),
  states: Type.Array(
    Type.Object({
      path: Type.String(),
      kind: Type.Enum(['atomic', 'compound', 'parallel', 'final']),
      description: nullable(Type.String()),
      x: Type.Number({ description: 'Of its upper left corner' }),
      y: Type.Number(),
      width: Type.Number(),
      height: Type.Number()
    })
  ),
  edges: Type.Array(
    Type.Object({
      from: Type.String(),
      to: Type.String(),
      event: nullable(Type.String({ description: 'null: it happens by itself' })),
      delayMs: nullable(Type.Integer({ description: 'Of a timer with a fixed delay' })),
      isTimer: Type.Boolean(),
      points: Type.Array(Point, { description: 'From the border of one to that of the other' }),
      labelAt: Point,
      sends: Type.Array(Type.String())
    })
  ),
  contracts: Type.Array(
    Type.Object({
      name: Type.String(),
      urn: Type.String(),
      kind: Type.String(),
      owner: Type.String(),
      sentBy: Type.Array(Type.String()),
      takenBy: Type.Array(Type.String(), {
        description: 'Services of this process, and what the contract itself says'
      }),
      schema: Type.Unknown(),
      states: Type.Array(Type.String(), { description: 'States that it moves' })
    })
  )
})

/** A service of the process, as far as contracts go. */
export interface Correspondent {
  readonly name: string
  /** Names of contracts. */
  readonly takes: readonly string[]
  readonly sends: readonly string[]
}

/** A saga's machine as a picture, and the contracts that it lives by. */
export function pictureRoutes(
  definition: SagaDefinition,
  service: string,
  correspondents: readonly Correspondent[]
): FastifyPluginAsyncTypebox {
  // Once a version, when somebody looks.
  let picture: Promise<Picture> | undefined
  return async (app) => {
    app.get(
      '/definition',
      {
        schema: {
          permission: 'saga:read',
          tags: ['saga'],
          summary: 'The machine as a picture: where states are, and lines between them',
          response: { 200: Drawn }
        }
      },
      async () => ({
        saga: definition.name,
        version: versionOf(definition),
        ...(await (picture ??= draw(definition.machine))),
        contracts: contractsOf(definition, service, correspondents)
      })
    )
  }
}

function contractsOf(
  definition: SagaDefinition,
  service: string,
  correspondents: readonly Correspondent[]
) {
  const { startedBy, handles } = definition
  const sent = sendsOf(definition)
  const states = restingStates(definition)
  const all = [...new Set<Contract>([startedBy, ...handles, ...sent])]
  return all.map(({ name, urn, kind, owner, schema, takenBy = [] }) => ({
    name,
    urn,
    kind,
    owner,
    sentBy: [
      ...new Set([
        ...(kind === 'event' ? [owner] : []),
        ...(sent.some((one) => one.name === name) ? [service] : []),
        ...correspondents.filter(({ sends }) => sends.includes(name)).map((one) => one.name)
      ])
    ],
    takenBy: [
      ...new Set([
        ...(kind === 'command' ? [owner] : []),
        ...takenBy,
        ...correspondents.filter(({ takes }) => takes.includes(name)).map((one) => one.name)
      ])
    ],
    schema: schema as unknown,
    states: states.filter((state) => acceptedEvents(definition, state).includes(name))
  }))
}
