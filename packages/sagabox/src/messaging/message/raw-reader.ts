import type { BodyReader } from './body-reader.ts'
import { idOfKey, keyProblem } from './correlation.ts'
import {
  bodyIn,
  objectIn,
  UnreadableMessage,
  type MessageReader,
  type Properties
} from './envelope.ts'
import { newId } from './id.ts'
import type { Contract, Message } from './message.ts'
import { withTrace } from './trace.ts'
import { bodyReaderOf } from './validate.ts'

/** JSON by any name, MassTransit's included: what is sent again without one gets that. */
const JSON_TYPE = /^(application|text)\/([\w.-]+\+)?json\s*(;|$)/i

/** Reads bodies without envelopes, all of one contract. */
export class RawReader implements MessageReader {
  readonly only: Contract
  readonly #bodies: BodyReader

  constructor(contract: Contract) {
    this.only = contract
    this.#bodies = bodyReaderOf(contract.schema)
  }

  /**
   * @param properties the message's id by AMQP is its id, or the UUID of that text; without one it
   * is a new message at each delivery
   * @throws UnreadableMessage
   */
  read(payload: Buffer | string, contentType?: string, properties: Properties = {}): Message {
    if (contentType !== undefined && !JSON_TYPE.test(contentType))
      throw new UnreadableMessage(
        'contentType',
        `expected application/json, got ${contentType.slice(0, 100)}`
      )
    const content = objectIn(payload, 'JSON')
    const { body, correlationId } = bodyIn(content, this.only, this.#bodies, 'body')
    const messageId = rawMessageId(properties.messageId)
    return {
      contract: this.only,
      body,
      messageId,
      correlationId,
      headers: withTrace(properties.headers ?? {}, undefined)
    }
  }

  glance(payload: Buffer | string, contentType?: string, properties?: Properties) {
    try {
      return this.read(payload, contentType, properties)
    } catch {
      return undefined // That may be what it is a dead letter for.
    }
  }

  /** Its bytes name no type. */
  find(): undefined {}
}

/** @param given by the sender: a UUID, any other text, or nothing */
export function rawMessageId(given: string | undefined): string {
  return given !== undefined && keyProblem(given) === undefined ? idOfKey(given) : newId()
}
