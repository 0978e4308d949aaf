import type { Static, TObject } from 'typebox'
import type { Answers, Asked, Asks } from './asked.ts'
import { composed, type Composed, type Lacking, type NoOthers } from './composed.ts'
import { ContractRules } from './contract-rules.ts'
import { idOfKey } from './correlation.ts'
import { newId } from './id.ts'
import { later, type Later, type LaterOptions } from './later.ts'
import { mustBeValid } from './validate.ts'

/**
 * The one definition of a message; queue names, exchanges, validation and documentation are derived
 * from it.
 */
export interface Contract<Name extends string = string, Body extends TObject = TObject> {
  readonly name: Name
  readonly kind: 'event' | 'command' | 'response'
  /**
   * Events: the service that publishes it. Commands: the endpoint that receives it. Responses: the
   * service that answers with it.
   */
  readonly owner: string
  readonly schema: Body
  /**
   * The body property, a text, or the path to it with dots, that names the business transaction the
   * message belongs to. Absent: it belongs to none.
   */
  readonly correlateBy?: string
  /**
   * An optional event may reach nobody; a required one stays in the outbox until a queue takes it.
   */
  readonly optional: boolean
  /** MassTransit's message type, `urn:message:<namespace>:<name>`. */
  readonly urn: string
  /** More general types that the message is, too. */
  readonly alsoUrns?: readonly string[]
  /** Their contracts: what takes one of them gets the message. */
  readonly also?: readonly Contract[]
  /** MassTransit's exchange of the message type, `<namespace>:<name>`. */
  readonly exchange: string
  /** Commands: the queue that they go to, where it is not named as the owner. */
  readonly queue?: string
  /** Endpoints outside of the system that take the event. */
  readonly takenBy?: readonly string[]
  /** It travels over an exchange of others, as JSON without an envelope. */
  readonly foreign?: Foreign
  /** What answers it, when it is a request. */
  readonly response?: Contract
}

/** A command that is answered. */
export interface RequestContract<
  Name extends string = string,
  Body extends TObject = TObject,
  Response extends Contract = Contract
> extends Contract<Name, Body> {
  readonly response: Response
}

/** An exchange that is somebody else's, and what of it is meant. */
export interface Foreign {
  readonly exchange: string
  readonly type: ExchangeType
  /** The binding key. */
  readonly key: string
  /** The routing key of what is published. */
  readonly keyOf: (body: unknown) => string
  /** What is matched, and sent, where the exchange is of type headers. */
  readonly headers?: Readonly<Record<string, string | number | boolean>>
}

/** What AMQP has: how an exchange finds the queues of a message. */
export type ExchangeType = 'fanout' | 'direct' | 'topic' | 'headers'

/** The type of a contract's bodies. */
export type BodyOf<C> = C extends Contract<string, infer Body> ? Static<Body> : never

/** A message, on its way out or just received. */
export interface Message<C extends Contract = Contract> {
  readonly contract: C
  readonly body: BodyOf<C>
  /** A UUID; by it an inbox knows a message that comes twice. */
  readonly messageId: string
  /** Of the business transaction: the UUID of what `correlateBy` names, see idOfKey. */
  readonly correlationId?: string
  /** The same for all that followed from one first message. */
  readonly conversationId?: string
  /** The correlation id of the message that caused this one. */
  readonly initiatorId?: string
  readonly headers: Readonly<Record<string, unknown>>
  /**
   * When it is sent, if not at once.
   * @internal
   */
  readonly later?: Later
  /**
   * Received: its sender waits for an answer.
   * @internal
   */
  readonly asked?: Asked
  /**
   * To send: it asks.
   * @internal
   */
  readonly asks?: Asks
  /**
   * To send: it answers.
   * @internal
   */
  readonly answers?: Answers
}

/** A message to send. */
export interface NewMessage<C extends Contract = Contract> extends Message<C> {
  /**
   * The same message, to be sent later. Until then it waits in the sender's database, also over
   * restarts, and can be cancelled by its token.
   * @param when how long from the commit, such as `'10s'` or `'30d'`, or milliseconds, by the
   * database's clock; or a point in time
   * @throws InvalidDuration when it is no time, or more than 100 years away; InvalidToken
   */
  after(when: string | number | Date, options?: LaterOptions): Message<C>
}

/** A contract that is called with a body: the result is a message to send. */
export type CallableContract<Name extends string, Body extends TObject> = Contract<Name, Body> &
  ((body: Static<Body>, cause?: Cause) => NewMessage<Contract<Name, Body>>) & {
    /**
     * The message as a step of a saga sends it.
     * @param fields what its body has beside the fields that the saga's context has under the same
     * names
     */
    with<Context, Fields>(
      fields: (
        context: Context
      ) => Fields & Lacking<Static<Body>, Context> & NoOthers<Fields, Static<Body>>
    ): Composed<Context, Contract>
  }

/** A request that is called with a body: the result is to be asked. */
export type CallableRequest<
  Name extends string,
  Body extends TObject,
  Response extends Contract
> = RequestContract<Name, Body, Response> &
  ((body: Static<Body>, cause?: Cause) => Message<RequestContract<Name, Body, Response>>)

/** How a contract is called outside. */
export interface Naming {
  /** The .NET namespace of its type; `Contracts` when not given. */
  readonly namespace?: string
  /** MassTransit's message type, where it is not `urn:message:<namespace>:<name>`. */
  readonly urn?: string
}

/** How an event is called outside. */
export interface EventNaming extends Naming {
  /** The exchange of the type, where it is not `<namespace>:<name>`. */
  readonly exchange?: string
}

/** What an event may say beside its body. */
export interface EventOptions extends EventNaming {
  /** It may reach nobody; otherwise it stays in the outbox until a queue takes it. */
  readonly optional?: boolean
  /**
   * Endpoints outside of this system that take it: it stays in the outbox until each of them has
   * been there once.
   */
  readonly takenBy?: readonly string[]
  /**
   * Contracts of more general events that it is, too: in .NET its base types and interfaces. Who
   * takes one of them gets it, and reads of the body what that contract names.
   */
  readonly also?: readonly Contract[]
}

/** What a command may say beside its body. */
export interface CommandOptions extends Naming {
  /** The queue that it goes to, where it is not named as its owner. */
  readonly queue?: string
}

type FieldOf<Body extends TObject> = keyof Static<Body> & string

/** What every contract says that is not made by `contracts`. */
export interface ContractOptions<Body extends TObject> {
  /** The service that publishes the event, or takes the command. */
  owner: string
  /** The body, as TypeBox has it. */
  schema: Body
  /** A text that every body has, or the path to it: a UUID, or an id of any other kind. */
  correlateBy: FieldOf<Body> | `${FieldOf<Body>}.${string}`
  /** What answers it, when it is a request. */
  response?: Contract
}

/** The .NET namespace that MassTransit would put before the name. */
export const NAMESPACE = 'Contracts'

/**
 * Declares an event: a fact, published to whoever listens.
 * @throws InvalidContract for what cannot be carried, and without an owner
 */
export function event<const Name extends string, Body extends TObject>(
  name: Name,
  options: ContractOptions<Body> & EventOptions
): CallableContract<Name, Body> {
  return declare('event', name, options)
}

/**
 * Declares a command: an imperative, sent to the one endpoint that owns it.
 * @throws InvalidContract for what cannot be carried, and without an owner
 */
export function command<const Name extends string, Body extends TObject>(
  name: Name,
  options: ContractOptions<Body> & CommandOptions
): CallableContract<Name, Body> {
  return declare('command', name, options)
}

/** Declares what answers requests. */
export function response<const Name extends string, Body extends TObject>(
  name: Name,
  options: ContractOptions<Body>
): CallableContract<Name, Body> {
  return declare('response', name, options)
}

/** Declares a request: a command whose sender waits for the answer. */
export function request<const Name extends string, Body extends TObject, Response extends Contract>(
  name: Name,
  options: ContractOptions<Body> & { response: Response }
): CallableRequest<Name, Body, Response> {
  if (options.response.kind !== 'response')
    throw new Error(
      `Request ${name}: ${options.response.name} is a contract of another kind; expected one declared by response()`
    )
  return declare('command', name, options) as CallableContract<Name, Body> &
    CallableRequest<Name, Body, Response>
}

function declare<Name extends string, Body extends TObject>(
  kind: Contract['kind'],
  name: Name,
  options: ContractOptions<Body> & EventOptions & CommandOptions
): CallableContract<Name, Body> {
  const { owner, schema, optional = false, takenBy, also, queue, response: answer } = options
  const names = namesOfType(name, options)
  const rules = new ContractRules(name)
  rules.owner(owner, kind)
  if (queue !== undefined) rules.entity('queue', queue)
  for (const taker of takenBy ?? []) rules.entity('takenBy', taker)
  for (const base of also ?? []) rules.base(base)
  rules.fields(schema.properties)
  const correlateBy = isCorrelated(kind, options) ? options.correlateBy : ''
  if (correlateBy !== '') rules.correlateBy(schema, correlateBy)
  rules.sensitive(schema, correlateBy)
  const more = {
    ...(queue !== undefined && { queue }),
    ...(takenBy && { takenBy }),
    ...(also && { also, alsoUrns: basesOf(also).map(({ urn }) => urn) }),
    ...(answer && { response: answer })
  }
  return callable(name, { kind, owner, schema, correlateBy, optional, ...names, ...more })
}

/** More general types, and theirs, the nearest first. */
function basesOf(also: readonly Contract[]): Contract[] {
  return [...new Set([...also, ...also.flatMap((base) => basesOf(base.also ?? []))])]
}

/** Who asks waits for the answer itself: requests and answers need not say what they are about. */
function isCorrelated<Body extends TObject>(
  kind: Contract['kind'],
  { schema, correlateBy, response: answer }: ContractOptions<Body>
): boolean {
  const mayLack = kind === 'response' || answer !== undefined
  return !mayLack || Object.hasOwn(schema.properties, correlateBy?.split('.')[0] ?? '')
}

/**
 * What a type is called on the wire.
 * @throws InvalidContract
 */
export function namesOfType(
  name: string,
  { namespace = NAMESPACE, urn, exchange }: EventNaming
): Pick<Contract, 'urn' | 'exchange'> {
  const rules = new ContractRules(name)
  rules.name(name)
  rules.namespace(namespace)
  if (urn !== undefined) rules.urn(urn)
  if (exchange !== undefined) rules.entity('exchange', exchange)
  const names = {
    urn: urn ?? `urn:message:${namespace}:${name}`,
    // A type inside another is Outer+Inner in .NET, and its exchange Outer-Inner.
    exchange: exchange ?? `${namespace}:${name}`.replaceAll('+', '-')
  }
  rules.fits('exchange of faults', faultExchange(names.exchange))
  return names
}

/** MassTransit's exchange of `Fault<T>`. */
export function faultExchange(exchange: string): string {
  return `MassTransit:Fault--${exchange}--`
}

/** A contract that is a function: its own name cannot be assigned. */
export function callable<Name extends string, Body extends TObject>(
  name: Name,
  contract: Omit<Contract<Name, Body>, 'name'>
): CallableContract<Name, Body> {
  const call: CallableContract<Name, Body> = Object.assign(
    (body: Static<Body>, cause?: Cause) => message(call, body as BodyOf<typeof call>, cause),
    contract,
    { with: (fields: (context: never) => object) => composed(call, fields) }
  ) as unknown as CallableContract<Name, Body>
  return Object.defineProperty(call, 'name', { value: name, enumerable: true })
}

/** What names the business transaction that a body belongs to: any text. */
export function keyOf({ correlateBy }: Contract, body: unknown): string | undefined {
  if (correlateBy === undefined || correlateBy === '') return undefined
  const found: unknown = correlateBy.includes('.')
    ? correlateBy
        .split('.')
        .reduce<unknown>(
          (value, key) => (value as Record<string, unknown> | null | undefined)?.[key],
          body
        )
    : (body as Record<string, unknown> | null | undefined)?.[correlateBy]
  return typeof found === 'string' ? found : undefined
}

/** Headers that follow a conversation from message to message: W3C trace context. */
const PROPAGATED = ['traceparent', 'tracestate']

/**
 * Composes a message to send. Its id is fixed here, before it is stored, so that every later copy
 * carries the same one.
 * @param cause the message being handled, if any: conversation, initiator and trace context follow
 * from it
 * @throws InvalidMessage for a body that is not what the contract says
 */
export function message<C extends Contract>(
  contract: C,
  body: BodyOf<C>,
  cause?: Cause
): NewMessage<C> {
  const key = keyOf(contract, body)
  mustBeValid(contract, body, key)
  return compose(contract, body, key, cause)
}

/** As `message`, of a body that is known to be valid, or is sent whatever it is. */
export function compose<C extends Contract>(
  contract: C,
  body: BodyOf<C>,
  key: string | undefined,
  cause?: Cause
): NewMessage<C> {
  return new MessageToSend(contract, body, key, cause)
}

class MessageToSend<C extends Contract> implements NewMessage<C> {
  readonly contract: C
  readonly body: BodyOf<C>
  readonly messageId: string
  readonly correlationId: string | undefined
  readonly conversationId: string
  readonly initiatorId: string | undefined
  readonly headers: Readonly<Record<string, unknown>>
  readonly answers: Answers | undefined

  constructor(contract: C, body: BodyOf<C>, key: string | undefined, cause: Cause | undefined) {
    this.contract = contract
    this.body = body
    this.messageId = newId()
    this.correlationId = key === undefined ? undefined : idOfKey(key)
    this.conversationId = cause?.conversationId ?? this.messageId
    this.initiatorId = cause?.correlationId
    this.headers = cause ? propagated(cause.headers) : {}
    this.answers = cause && answersTo(cause, contract)
  }

  after(when: string | number | Date, options?: LaterOptions): Message<C> {
    return Object.assign({}, this, { later: later(when, options) })
  }
}

/** The message that another follows from: it continues its conversation. */
export type Cause = Pick<Message, 'conversationId' | 'correlationId' | 'headers'> &
  Partial<Pick<Message, 'asked' | 'contract'>>

/** Where a message goes that answers the one that caused it. */
function answersTo({ asked, contract }: Cause, sent: Contract): Answers | undefined {
  if (!asked?.answerTo || contract?.response !== sent) return undefined
  return { requestId: asked.requestId, to: asked.answerTo }
}

/** The message as one that follows from another, unless its own cause was said when it was made. */
export function causedBy(sent: Message, cause: Cause): Message {
  if (sent.conversationId !== sent.messageId || sent.initiatorId !== undefined) return sent
  return {
    ...sent,
    conversationId: cause.conversationId ?? sent.messageId,
    initiatorId: cause.correlationId,
    headers: { ...propagated(cause.headers), ...sent.headers },
    answers: answersTo(cause, sent.contract)
  }
}

function propagated(headers: Message['headers']): Record<string, unknown> {
  const kept: Record<string, unknown> = {}
  for (const name of PROPAGATED)
    if (Object.hasOwn(headers, name) && typeof headers[name] === 'string')
      kept[name] = headers[name]
  return kept
}
