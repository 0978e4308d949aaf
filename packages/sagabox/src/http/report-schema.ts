import Type from 'typebox'
import { nullable } from '../messaging/message/nullable.ts'

const Sighting = Type.Object({
  messageId: Type.String(),
  contract: nullable(Type.String()),
  state: Type.Enum(
    ['outbox', 'broker', 'scheduled', 'discarded', 'putOff', 'handled', 'deadLetter'],
    {
      description:
        'outbox: committed, not sent; broker: given to it, not confirmed; scheduled: to be sent later; discarded: given up by a person; putOff: its endpoint failed, and has it again later'
    }
  ),
  at: Type.String({ description: 'Since when' }),
  destination: Type.String({ description: 'An exchange; of what was received its endpoint' }),
  dueAt: nullable(Type.String({ description: 'When it is sent, or comes again' })),
  error: nullable(Type.String({ description: 'At most 500 characters' })),
  attempts: Type.Integer({ description: 'Tries to send it, or deliveries that failed' }),
  letterId: nullable(Type.Integer()),
  status: nullable(Type.String({ description: 'Of a letter; else null' })),
  sameCause: Type.Integer({ description: 'Of a letter: others that wait with the same cause' })
})

/** What a service knows of messages, and of itself. */
export const Report = Type.Object({
  messages: Type.Array(Sighting),
  endpoint: Type.Object({
    lastHandledAt: nullable(Type.String()),
    queueDepth: nullable(
      Type.Integer({ description: 'Of its queues; null: its transport cannot tell' })
    ),
    relayLeads: Type.Boolean({ description: 'A process sends what is in its outbox' }),
    problem: nullable(Type.String({ description: 'Why messages do not flow' })),
    paused: nullable(Type.Object({ since: Type.String(), reason: Type.String() })),
    redeliverySeconds: Type.Array(Type.Number()),
    inboxDays: Type.Number({ description: 'How long it remembers what it has handled' }),
    takes: Type.Array(Type.String(), { description: 'Contracts' })
  })
})
