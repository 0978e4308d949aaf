import { InvalidMessage } from '../message/validate.ts'
import type { Message } from '../message/message.ts'
import { besideTrace } from '../message/trace.ts'
import { foreignDestination } from '../transport/topology.ts'

/** Of a routing key in AMQP, bytes. */
const MAX_KEY_BYTES = 255

/** The row of a message that goes to an exchange of others: its body, and nothing around it. */
export function rawMessage({ contract, body, messageId, headers }: Message) {
  const { exchange, keyOf, headers: matched = {} } = contract.foreign!
  const routingKey = keyOf(body)
  if (Buffer.byteLength(routingKey) > MAX_KEY_BYTES || routingKey.includes('\0'))
    throw new InvalidMessage(
      `${contract.name} cannot be sent: its routing key ${routingKey.slice(0, 60)}… must have at most ${MAX_KEY_BYTES} bytes, and no NUL`
    )
  const sent = Object.entries(matched).filter(([name]) => !name.startsWith('x-'))
  return {
    message_id: messageId,
    destination: foreignDestination({ exchange, routingKey }),
    payload: JSON.stringify(body),
    headers: { ...headers, ...besideTrace(headers), ...Object.fromEntries(sent) },
    content_type: 'application/json'
  }
}
