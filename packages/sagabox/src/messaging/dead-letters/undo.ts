import type { Message } from '../message/message.ts'
import type { Tx } from '../postgres/sql.ts'

/** What a dead letter says of the business transaction that it belongs to. */
export interface OrphanedLetter {
  type: string | null
  correlationId: string | null
  payload: Buffer
}

/**
 * How the effects of a business transaction are undone that nobody remembers here: after a database
 * has forgotten, for instance.
 */
export interface Undo {
  /** Types of the events that answer the commands. Their letters will need no operator. */
  readonly answers: readonly string[]
  /**
   * Composes the commands that undo all that may have been done.
   * @throws NotAllowed when the transaction is known here, or the letter names none
   */
  commandsFor(tx: Tx, letter: OrphanedLetter): Promise<Message[]>
}
