import { isUtf8 } from 'node:buffer'
import { hostname, release } from 'node:os'
import { correlationOf, type Contract, type Message } from './message.ts'
import { checker, type Checker } from './schema.ts'

export const CONTENT_TYPE = 'application/vnd.masstransit+json'

/** Other senders may name the envelope's format only. */
const JSON_TYPE = /^application\/(vnd\.masstransit\+)?json\s*(;|$)/i

/** Largest message accepted, in bytes: RabbitMQ 4 refuses 16 MiB, and a message that big is a file. */
export const MAX_MESSAGE_BYTES = 1024 * 1024

/** JSON that is read may have to be written again, which ends in a stack overflow from about 5,000 levels on. */
const MAX_DEPTH = 200
/** Shorter texts cannot be that deep: they need not be looked at. */
const SHALLOW_CHARACTERS = 4000

/** Some senders write one before the envelope: it is no part of the JSON, and nothing is wrong with it. */
const BYTE_ORDER_MARK = /^\uFEFF/

/** A received message that no handler may see. `field` names what was wrong, the message says what was expected. */
export class UnreadableMessage extends Error {
  override readonly name: string = 'UnreadableMessage'
  readonly field: string
  constructor(field: string, expected: string) {
    super(`${field}: ${expected}`)
    this.field = field
  }
}

/** A well-formed message of a type that the endpoint has no handler for. */
export class UnknownMessageType extends UnreadableMessage {
  override readonly name = 'UnknownMessageType'
}

/** This process, as MassTransit describes a sender. */
export const HOST_INFO = {
  machineName: hostname(),
  processName: 'node',
  processId: process.pid,
  assembly: 'sagabox',
  assemblyVersion: '0.1.0',
  frameworkVersion: process.versions.node,
  massTransitVersion: '8.0.0.0',
  operatingSystemVersion: release()
}

const HOST = JSON.stringify(HOST_INFO)

/** Writes MassTransit's JSON envelope; one instance for a sender. */
export class EnvelopeWriter {
  readonly #address: string
  readonly #source: string
  /** What is the same for every message of a contract, which is the larger half. */
  readonly #addresses = new Map<Contract, string>()

  /**
   * @param address of the bus, e.g. `rabbitmq://localhost/` or `loopback://localhost/`
   * @param source name of the endpoint or service that sends
   */
  constructor(address: string, source: string) {
    this.#address = address
    this.#source = source
  }

  write({ contract, messageId, conversationId, correlationId, initiatorId, body, headers }: Message, sentTime = new Date().toISOString()): string {
    let addresses = this.#addresses.get(contract)
    if (addresses === undefined) {
      addresses = `"sourceAddress":"${this.#address}${this.#source}","destinationAddress":"${this.#address}${destinationOf(contract)}","messageType":[${urnsOf(contract)}],"message":`
      this.#addresses.set(contract, addresses)
    }
    return `{"messageId":"${messageId}",${optional('conversationId', conversationId)}${optional('correlationId', correlationId)}${optional('initiatorId', initiatorId)}${addresses}${JSON.stringify(body)},"sentTime":"${sentTime}","headers":${JSON.stringify(headers)},"host":${HOST}}`
  }
}

function urnsOf({ urn, alsoUrns }: Contract): string {
  return alsoUrns ? [urn, ...alsoUrns].map((name) => JSON.stringify(name)).join(',') : `"${urn}"`
}

/** Ids may be a sender's or a body's: any text. */
function optional(name: string, value: string | undefined): string {
  return value === undefined ? '' : `"${name}":${JSON.stringify(value)},`
}

/** The exchange a message goes to: a command's receiver, an event's type. */
export function destinationOf(contract: Contract): string {
  return contract.kind === 'command' ? contract.owner : contract.exchange
}

/** Any case, any version: .NET's ids are not UUIDv7. */
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** Reads envelopes of the given contracts; one instance an endpoint. */
export class EnvelopeReader {
  readonly #byUrn = new Map<string, { contract: Contract; check: Checker }>()

  constructor(contracts: readonly Contract[]) {
    for (const contract of contracts) this.#byUrn.set(contract.urn, { contract, check: checker(contract.schema) })
  }

  /**
   * @param payload the bytes as received: untrusted
   * @param contentType as received; absent, the body alone must tell
   * @throws UnreadableMessage naming the field; UnknownMessageType when no handler wants it
   */
  read(payload: Buffer | string, contentType?: string): Message {
    if (contentType !== undefined && !JSON_TYPE.test(contentType)) throw new UnreadableMessage('contentType', `expected ${CONTENT_TYPE}, got ${contentType.slice(0, 100)}`)
    if (payload.length > MAX_MESSAGE_BYTES) throw new UnreadableMessage('body', `expected at most ${MAX_MESSAGE_BYTES} bytes, got ${payload.length}`)
    if (typeof payload !== 'string' && !isUtf8(payload)) throw new UnreadableMessage('body', 'expected UTF-8')
    const text = payload.toString().replace(BYTE_ORDER_MARK, '')
    if (text.length > SHALLOW_CHARACTERS && isTooDeep(text)) throw new UnreadableMessage('body', `expected at most ${MAX_DEPTH} levels of nesting`)
    const envelope = parseObject(text)
    const known = this.#contractOf(envelope.messageType)
    const messageId = guid(envelope, 'messageId')
    if (!messageId) throw new UnreadableMessage('messageId', 'expected a UUID, got nothing')
    const problem = known.check(envelope.message)
    if (problem) throw new UnreadableMessage(`message${problem.field}`, problem.expected)
    const headers = envelope.headers ?? {}
    if (!isObject(headers)) throw new UnreadableMessage('headers', 'expected an object')
    return {
      contract: known.contract,
      body: envelope.message as Message['body'],
      messageId,
      // The body decides: a sender may leave the envelope's correlationId out, and the saga must not depend on it.
      correlationId: correlationOf(known.contract, envelope.message),
      conversationId: guid(envelope, 'conversationId'),
      initiatorId: guid(envelope, 'initiatorId'),
      headers
    }
  }

  /** The contract of this URN, if it is one of these. */
  find(urn: string): Contract | undefined {
    return this.#byUrn.get(urn)?.contract
  }

  #contractOf(messageType: unknown) {
    if (!Array.isArray(messageType) || messageType.length === 0 || !messageType.every((type) => typeof type === 'string')) {
      throw new UnreadableMessage('messageType', 'expected a list of urn:message: names')
    }
    for (const type of messageType) {
      const known = this.#byUrn.get(type)
      if (known) return known
    }
    throw new UnknownMessageType('messageType', `expected one of ${[...this.#byUrn.keys()].join(', ')}, got ${messageType.join(', ').slice(0, 200)}`)
  }
}

function parseObject(payload: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(payload)
  } catch (error) {
    throw new UnreadableMessage('body', `expected a JSON envelope: ${(error as Error).message}`)
  }
  if (!isObject(value)) throw new UnreadableMessage('body', 'expected a JSON object')
  return value
}

function isTooDeep(text: string): boolean {
  let depth = 0
  let quoted = false
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (quoted) {
      if (code === BACKSLASH) index++
      else if (code === QUOTE) quoted = false
    } else if (code === QUOTE) quoted = true
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      if (++depth > MAX_DEPTH) return true
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth--
  }
  return false
}

const [QUOTE, BACKSLASH, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = ['"', '\\', '{', '}', '[', ']'].map((character) => character.charCodeAt(0))

function guid(envelope: Record<string, unknown>, field: string): string | undefined {
  const value = envelope[field]
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'string' || !UUID.test(value)) throw new UnreadableMessage(field, 'expected a UUID')
  return value.toLowerCase()
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
