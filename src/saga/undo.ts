import { message, type Message } from '../messaging/message.ts'
import type { Tx } from '../messaging/sql.ts'
import type { SagaHost } from './host.ts'
import { lockInstances } from './tables.ts'

/**
 * What undoes all that may have been done elsewhere for an instance that is gone: a database that forgot it, say.
 * @returns undefined when the instance is there, which undoes by itself
 */
export async function undoWithoutInstance({ definition }: SagaHost, tx: Tx, sagaId: string): Promise<Message[] | undefined> {
  const { name, effects = [] } = definition
  const rows = await lockInstances(tx, name, [sagaId])
  if (rows.length > 0) return undefined
  const cause = { conversationId: sagaId, correlationId: sagaId, headers: {} }
  return effects.map(({ undoneBy }) => message(undoneBy, { [undoneBy.correlateBy]: sagaId }, cause))
}
