import { run, statement, type Tx } from './sql.ts'
import type { Delivery } from './transport.ts'

const INSERT = statement(`
  insert into dead_letter (endpoint, message_id, payload, content_type, exception, reason)
  select * from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[])`)

/** A message that could not be handled, kept byte for byte until an operator decides. */
export interface DeadLetter {
  endpoint: string
  messageId: string | undefined
  payload: Buffer
  contentType: string | undefined
  exception: string
  reason: string
}

export function deadLetterOf(endpoint: string, delivery: Delivery, error: Error): DeadLetter {
  const { payload, contentType, messageId } = delivery
  return {
    endpoint,
    messageId: printable(messageId),
    payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
    contentType: printable(contentType),
    exception: error.name,
    reason: printable(error.message) ?? ''
  }
}

/** Postgres takes no NUL in text, and a hostile header must not keep its own dead letter from being written. */
function printable(text: string | undefined): string | undefined {
  return text?.replaceAll('\0', '\uFFFD').slice(0, 2000)
}

export async function storeDeadLetters(tx: Tx, letters: readonly DeadLetter[]): Promise<void> {
  await run(tx, INSERT, [
    letters.map((letter) => letter.endpoint),
    letters.map((letter) => letter.messageId),
    letters.map((letter) => letter.payload),
    letters.map((letter) => letter.contentType),
    letters.map((letter) => letter.exception),
    letters.map((letter) => letter.reason)
  ])
}
