import Type from 'typebox'
import { bodyWithReason } from './reason.ts'

/** What routes have in common that give up a row of an outbox, wherever it waits. */
export const discardSchema = {
  permission: 'outbox:discard',
  target: 'outbox row :id',
  params: Type.Object({ id: Type.String({ pattern: '^[0-9]{1,15}$' }) }),
  body: bodyWithReason('Why, for those who read it later'),
  response: {
    200: Type.Object({
      id: Type.String(),
      messageId: Type.String(),
      status: Type.Literal('discarded')
    })
  }
}
