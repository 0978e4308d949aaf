import { isUtf8 } from 'node:buffer'
import { hostname, release } from 'node:os'
import { queueIn } from './address.ts'
import type { AnswerTo, Asked } from './asked.ts'
import type { BodyReader } from './body-reader.ts'
import { idOfKey, keyProblem } from './correlation.ts'
import { guidOf, UUID } from './id.ts'
import { keyOf, type Contract, type Message } from './message.ts'
import { withTrace } from './trace.ts'
import { bodyReaderOf } from './validate.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'

export const CONTENT_TYPE = 'application/vnd.masstransit+json'

/** Other senders may name the envelope's format only. */
const JSON_TYPE = /^application\/(vnd\.masstransit\+)?json\s*(;|$)/i

/**
 * Largest message accepted, in bytes: RabbitMQ 4 refuses 16 MiB, and a message that big is a file.
 */
export const MAX_MESSAGE_BYTES = 1024 * 1024

/**
 * Most fields and items of a message, nested ones included. An object takes up to twenty times the
 * memory of its text, and the longest to read: 1 MiB of `{}` 80 ms, 70,000 fields of different names
 * 90 ms, 50,000 of them 20 ms. An order of 100 lines has 400.
 */
export const MAX_VALUES = 50_000

/**
 * JSON that is read may have to be written again, which ends in a stack overflow from about 5,000
 * levels on.
 */
const MAX_DEPTH = 200
/** Shorter texts cannot be that deep, nor hold that much: they need not be looked at. */
const SMALL_CHARACTERS = 4000

/**
 * A received message that no handler may see. `field` names what was wrong, the message says what
 * was expected.
 */
export class UnreadableMessage extends SagaboxError {
  override readonly name: string = 'UnreadableMessage'
  override readonly code: string = 'UNREADABLE_MESSAGE'
  readonly field: string
  constructor(field: string, expected: string) {
    super(`${field}: ${expected}`)
    this.field = field
  }
}

/** A well-formed message of a type that the endpoint has no handler for. */
export class UnknownMessageType extends UnreadableMessage {
  override readonly name = 'UnknownMessageType'
  override readonly code = 'UNKNOWN_MESSAGE_TYPE'
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
   * @param address of the bus, e.g. `rabbitmq://localhost/` or `loopback://localhost/`: a URL, its
   * parts percent-encoded
   * @param source name of the endpoint or service that sends
   */
  constructor(address: string, source: string) {
    this.#address = address
    this.#source = source
  }

  write(message: Message, sentTime = new Date().toISOString()): string {
    const { contract, messageId, conversationId, correlationId, initiatorId, body, headers } =
      message
    const { asks, answers } = message
    const addresses = answers
      ? this.#addressesTo(answers.to.address, contract)
      : this.#addressesOf(contract)
    const talk = (asks ?? answers) ? talkOf(message, sentTime) : ''
    return `{"messageId":"${messageId}",${talk}${optional('conversationId', conversationId)}${optional('correlationId', correlationId)}${optional('initiatorId', initiatorId)}${addresses}${JSON.stringify(body)},"sentTime":"${sentTime}","headers":${JSON.stringify(headers)},"host":${HOST}}`
  }

  #addressesOf(contract: Contract): string {
    let addresses = this.#addresses.get(contract)
    if (addresses === undefined) {
      addresses = this.#addressesTo(this.#address + destinationOf(contract), contract)
      this.#addresses.set(contract, addresses)
    }
    return addresses
  }

  #addressesTo(destination: string, { urn, alsoUrns = [] }: Contract): string {
    const source = JSON.stringify(this.#address + this.#source)
    return `"sourceAddress":${source},"destinationAddress":${JSON.stringify(destination)},"messageType":${JSON.stringify([urn, ...alsoUrns])},"message":`
  }
}

/** What only requests and answers have. */
function talkOf({ asks, answers }: Message, sentTime: string): string {
  if (!asks) return optional('requestId', answers?.requestId)
  const { requestId, responseAddress, waitsMs } = asks
  return [
    optional('requestId', requestId),
    optional('responseAddress', responseAddress),
    optional('expirationTime', new Date(Date.parse(sentTime) + waitsMs).toISOString())
  ].join('')
}

/** Ids may be a sender's or a body's: any text. */
function optional(name: string, value: string | undefined): string {
  return value === undefined ? '' : `"${name}":${JSON.stringify(value)},`
}

/** The exchange a message goes to: a command's receiver, an event's type. */
export function destinationOf(contract: Contract): string {
  return contract.kind === 'command' ? (contract.queue ?? contract.owner) : contract.exchange
}

/** What travels beside the bytes. */
export interface Properties {
  messageId?: string | undefined
  headers?: Readonly<Record<string, unknown>>
}

/** Reads what an endpoint's queue brings. */
export interface MessageReader {
  /**
   * @param payload the bytes as received: untrusted
   * @param contentType as received; absent, the body alone must tell
   * @throws UnreadableMessage naming the field; UnknownMessageType when no handler wants it
   */
  read(payload: Buffer | string, contentType?: string, properties?: Properties): Message
  /**
   * What can be told of bytes that are only kept. They are parsed once, and nobody is told what is
   * wrong with them.
   * @returns the message when it is valid
   */
  glance(
    payload: Buffer | string,
    contentType?: string,
    properties?: Properties
  ): Message | undefined
  /** The contract of this URN, if it is one of these. */
  find(urn: string): Contract | undefined
  /** What everything is that comes there, without an envelope to say so. */
  readonly only?: Contract
}

/** Reads envelopes of the given contracts; one instance an endpoint. */
export class EnvelopeReader implements MessageReader {
  readonly #byUrn = new Map<string, { contract: Contract; bodies: BodyReader }>()
  readonly #bus: string | undefined

  /** @param bus address of the bus, where messages that are asked can be answered */
  constructor(contracts: readonly Contract[], bus?: string) {
    this.#bus = bus
    for (const contract of contracts)
      this.#byUrn.set(contract.urn, { contract, bodies: bodyReaderOf(contract.schema) })
  }

  read(payload: Buffer | string, contentType?: string, beside?: Properties): Message {
    return this.#messageIn(open(payload, contentType), beside)
  }

  glance(payload: Buffer | string, contentType?: string, beside?: Properties): Message | undefined {
    try {
      return this.#messageIn(open(payload, contentType), beside)
    } catch {
      return undefined // That may be what it is a dead letter for.
    }
  }

  /** What can be told of an answer; never throws. */
  readAnswer(
    payload: Buffer | string,
    contentType?: string
  ): { requestId?: string; message?: Message; error?: Error } {
    let requestId: string | undefined
    try {
      const envelope = open(payload, contentType)
      requestId = guid(envelope, 'requestId')
      return { requestId, message: this.#messageIn(envelope) }
    } catch (error) {
      return { requestId, error: error as Error }
    }
  }

  #messageIn(envelope: Record<string, unknown>, beside?: Properties): Message {
    const { contract, bodies } = this.#contractOf(envelope.messageType)
    const messageId = guid(envelope, 'messageId')
    if (!messageId)
      throw new UnreadableMessage(
        'messageId',
        envelope.messageId === null ? REQUIRED : 'expected a UUID, got nothing'
      )
    const { body, correlationId } = bodyIn(envelope.message, contract, bodies, 'message')
    return {
      contract,
      body,
      messageId,
      // The body decides: a sender may leave the envelope's correlationId out, and the saga must
      // not depend on it.
      correlationId,
      conversationId: guid(envelope, 'conversationId'),
      initiatorId: guid(envelope, 'initiatorId'),
      headers: withTrace(headersIn(envelope.headers), beside?.headers),
      ...(this.#bus !== undefined &&
        wantsAnswer(envelope) && { asked: askedIn(envelope, this.#bus) })
    }
  }

  find(urn: string): Contract | undefined {
    return this.#byUrn.get(urn)?.contract
  }

  #contractOf(messageType: unknown) {
    if (messageType === null) throw new UnreadableMessage('messageType', REQUIRED)
    if (
      !Array.isArray(messageType) ||
      messageType.length === 0 ||
      !messageType.every((type) => typeof type === 'string')
    ) {
      throw new UnreadableMessage('messageType', 'expected a list of urn:message: names')
    }
    for (const type of messageType) {
      const known = this.#byUrn.get(type)
      if (known) return known
    }
    throw new UnknownMessageType(
      'messageType',
      `expected one of ${[...this.#byUrn.keys()].join(', ')}, got ${messageType.join(', ').slice(0, 200)}`
    )
  }
}

/** Text of Windows programs may begin with a byte order mark, which JSON does not know. */
function withoutMark(text: string): string {
  return text.startsWith('\uFEFF') ? text.slice(1) : text
}

/** @throws UnreadableMessage */
function open(payload: Buffer | string, contentType: string | undefined): Record<string, unknown> {
  if (contentType !== undefined && !JSON_TYPE.test(contentType))
    throw new UnreadableMessage(
      'contentType',
      `expected ${CONTENT_TYPE}, got ${contentType.slice(0, 100)}`
    )
  const envelope = objectIn(payload, 'a JSON envelope')
  if (!Object.hasOwn(envelope, 'messageType') && !Object.hasOwn(envelope, 'message'))
    throw new UnreadableMessage('envelope', withoutEnvelope(Object.keys(envelope)))
  return envelope
}

function withoutEnvelope(fields: readonly string[]): string {
  const found = fields.length === 0 ? 'no fields' : `the fields ${fields.slice(0, 8).join(', ')}`
  return `is missing: expected MassTransit's, with messageId, messageType and message, got ${found.slice(0, 200)}; to take JSON without one, declare its contract by foreign()`
}

/**
 * Parses bytes of anybody's, in bounded time.
 * @param what is expected, for errors
 * @throws UnreadableMessage
 */
export function objectIn(payload: Buffer | string, what: string): Record<string, unknown> {
  if (payload.length > MAX_MESSAGE_BYTES)
    throw new UnreadableMessage(
      'body',
      `expected at most ${MAX_MESSAGE_BYTES} bytes, got ${payload.length}`
    )
  if (typeof payload !== 'string' && !isUtf8(payload))
    throw new UnreadableMessage('body', 'expected UTF-8')
  const text = withoutMark(payload.toString())
  const expected = text.length > SMALL_CHARACTERS ? tooCostly(text) : undefined
  if (expected !== undefined) throw new UnreadableMessage('body', `expected ${expected}`)
  return parseObject(text, what)
}

function parseObject(payload: string, what: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(payload)
  } catch (error) {
    throw new UnreadableMessage('body', `expected ${what}: ${(error as Error).message}`)
  }
  if (!isObject(value)) throw new UnreadableMessage('body', 'expected a JSON object')
  return value
}

/**
 * What makes a text too costly to parse, told from its punctuation alone: 2 ms a MiB.
 */
function tooCostly(text: string): string | undefined {
  let depth = 0
  let values = 0
  let quoted = false
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (quoted) {
      if (code === BACKSLASH) index++
      else if (code === QUOTE) quoted = false
    } else if (code === QUOTE) quoted = true
    else if (code === COMMA) values++
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      // Its first field or item has no comma.
      values++
      if (++depth > MAX_DEPTH) return `at most ${MAX_DEPTH} levels of nesting`
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth--
    if (values > MAX_VALUES) return `at most ${MAX_VALUES} fields and items`
  }
  return undefined
}

const [QUOTE, BACKSLASH, COMMA, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [
  '"',
  '\\',
  ',',
  '{',
  '}',
  '[',
  ']'
].map((character) => character.charCodeAt(0))

const REQUIRED = 'is required, got null'

function guid(envelope: Record<string, unknown>, field: string): string | undefined {
  const value = envelope[field]
  if (value === undefined || value === null) return undefined
  const id =
    typeof value === 'string' ? (UUID.test(value) ? value.toLowerCase() : guidOf(value)) : undefined
  if (id === undefined) throw new UnreadableMessage(field, 'expected a UUID')
  return id
}

/**
 * @param at where the body is, for errors
 * @throws UnreadableMessage
 */
export function bodyIn(
  value: unknown,
  contract: Contract,
  bodies: BodyReader,
  at: string
): Pick<Message, 'body' | 'correlationId'> {
  let body = value
  // What is kept by this id is kept in lower case.
  if (!bodies.accepts(value) || isCapitalUuid(keyOf(contract, value))) {
    const read = bodies.adapt(value)
    if ('problem' in read)
      throw new UnreadableMessage(at + read.problem.field, read.problem.expected)
    body = read.body
  }
  const key = keyOf(contract, body)
  if (key === undefined) return { body: body as Message['body'] }
  const problem = keyProblem(key)
  if (problem !== undefined) throw new UnreadableMessage(`${at}.${contract.correlateBy}`, problem)
  return { body: body as Message['body'], correlationId: idOfKey(key) }
}

const CAPITALS = /[A-F]/

function isCapitalUuid(key: string | undefined): boolean {
  return key !== undefined && key.length === 36 && CAPITALS.test(key) && UUID.test(key)
}

/** Its sender asks, or wants to be told of a failure. */
function wantsAnswer({ requestId, faultAddress, responseAddress }: Record<string, unknown>) {
  return (
    typeof requestId === 'string' ||
    typeof faultAddress === 'string' ||
    typeof responseAddress === 'string'
  )
}

/** All of it is a sender's word: what makes no sense is left out. */
function askedIn(envelope: Record<string, unknown>, bus: string): Asked | undefined {
  const { requestId: id } = envelope
  const requestId = typeof id === 'string' ? guidOf(id) : undefined
  if (requestId === undefined && typeof id === 'string') return undefined
  const refused: string[] = []
  const place = (address: unknown): AnswerTo | undefined => {
    if (typeof address !== 'string') return undefined
    const queue = queueIn(address, bus)
    if (queue === undefined) refused.push(address.slice(0, 200))
    return queue === undefined ? undefined : { address, queue }
  }
  // Both by the sender's clock, so that ours need not agree with it.
  const waitsMs =
    Date.parse(String(envelope.expirationTime)) - Date.parse(String(envelope.sentTime))
  const answerTo = place(envelope.responseAddress)
  const faultTo = place(envelope.faultAddress) ?? answerTo
  if (requestId === undefined) return { faultTo, refused }
  return {
    requestId,
    answerTo,
    faultTo,
    refused,
    ...(!Number.isNaN(waitsMs) && { waitsMs })
  }
}

/** MassTransit writes null for a header without a value. */
function headersIn(headers: unknown): Record<string, unknown> {
  if (headers === undefined || headers === null) return {}
  if (!isObject(headers)) throw new UnreadableMessage('headers', 'expected an object')
  if (!Object.values(headers).includes(null)) return headers
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== null))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
