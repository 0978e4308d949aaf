import type { Static, TObject } from 'typebox'
import type { Answers, Asked, Asks } from './asked.ts'
import { newId } from './id.ts'
import { later, type Later, type LaterOptions } from './later.ts'

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
   * The body property (a UUID), or the path to it with dots, that names the business transaction
   * the message belongs to.
   */
  readonly correlateBy: string
  /**
   * An optional event may reach nobody; a required one stays in the outbox until a queue takes it.
   */
  readonly optional: boolean
  /** MassTransit's message type, `urn:message:<namespace>:<name>`. */
  readonly urn: string
  /** More general types that the message is, too. */
  readonly alsoUrns?: readonly string[]
  /** MassTransit's exchange of the message type, `<namespace>:<name>`. */
  readonly exchange: string
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

export type BodyOf<C> = C extends Contract<string, infer Body> ? Static<Body> : never

/** A message, on its way out or just received. */
export interface Message<C extends Contract = Contract> {
  readonly contract: C
  readonly body: BodyOf<C>
  readonly messageId: string
  readonly correlationId?: string
  readonly conversationId?: string
  readonly initiatorId?: string
  readonly headers: Readonly<Record<string, unknown>>
  /** When it is sent, if not at once. */
  readonly later?: Later
  /** Received: its sender waits for an answer. */
  readonly asked?: Asked
  /** To send: it asks. */
  readonly asks?: Asks
  /** To send: it answers. */
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
  ((body: Static<Body>, cause?: Cause) => NewMessage<Contract<Name, Body>>)

/** A request that is called with a body: the result is to be asked. */
export type CallableRequest<
  Name extends string,
  Body extends TObject,
  Response extends Contract
> = RequestContract<Name, Body, Response> &
  ((body: Static<Body>, cause?: Cause) => Message<RequestContract<Name, Body, Response>>)

interface ContractOptions<Body extends TObject> {
  /** The .NET namespace of its type; `Contracts` when not given. */
  namespace?: string
  owner: string
  schema: Body
  correlateBy: keyof Static<Body> & string
  optional?: boolean
  response?: Contract
}

/** The .NET namespace that MassTransit would put before the name. */
export const NAMESPACE = 'Contracts'

/** Declares an event: a fact, published to whoever listens. */
export function event<const Name extends string, Body extends TObject>(
  name: Name,
  options: ContractOptions<Body>
): CallableContract<Name, Body> {
  return declare('event', name, options)
}

/** Declares a command: an imperative, sent to the one endpoint that owns it. */
export function command<const Name extends string, Body extends TObject>(
  name: Name,
  options: ContractOptions<Body>
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
  options: ContractOptions<Body>
): CallableContract<Name, Body> {
  const { owner, schema, correlateBy, optional = false, namespace = NAMESPACE } = options
  if ('type' in schema.properties)
    throw new Error(
      `Contract ${name}: a field named type would hide the event's own type from a saga`
    )
  const contract = {
    ...(options.response && { response: options.response }),
    kind,
    owner,
    schema,
    correlateBy,
    optional,
    urn: `urn:message:${namespace}:${name}`,
    exchange: `${namespace}:${name}`
  }
  const call: CallableContract<Name, Body> = Object.assign(
    (body: Static<Body>, cause?: Cause) => message(call, body as BodyOf<typeof call>, cause),
    contract
  ) as unknown as CallableContract<Name, Body>
  // A function's own name cannot be assigned.
  return Object.defineProperty(call, 'name', { value: name, enumerable: true })
}

/** The business transaction that a body belongs to. */
export function correlationOf({ correlateBy }: Contract, body: unknown): string | undefined {
  const found: unknown = correlateBy.includes('.')
    ? correlateBy
        .split('.')
        .reduce<unknown>(
          (value, key) => (value as Record<string, unknown> | undefined)?.[key],
          body
        )
    : (body as Record<string, unknown>)[correlateBy]
  return found as string | undefined
}

/** Headers that follow a conversation from message to message: W3C trace context. */
const PROPAGATED = ['traceparent', 'tracestate']

/**
 * Composes a message to send. Its id is fixed here, before it is stored, so that every later copy
 * carries the same one.
 * @param cause the message being handled, if any: conversation, initiator and trace context follow
 * from it
 */
export function message<C extends Contract>(
  contract: C,
  body: BodyOf<C>,
  cause?: Cause
): NewMessage<C> {
  return new Composed(contract, body, cause)
}

class Composed<C extends Contract> implements NewMessage<C> {
  readonly contract: C
  readonly body: BodyOf<C>
  readonly messageId: string
  readonly correlationId: string | undefined
  readonly conversationId: string
  readonly initiatorId: string | undefined
  readonly headers: Readonly<Record<string, unknown>>
  readonly answers: Answers | undefined

  constructor(contract: C, body: BodyOf<C>, cause: Cause | undefined) {
    this.contract = contract
    this.body = body
    this.messageId = newId()
    this.correlationId = correlationOf(contract, body)
    this.conversationId = cause?.conversationId ?? this.messageId
    this.initiatorId = cause?.correlationId
    this.headers = cause ? propagated(cause.headers) : {}
    this.answers = cause && answersTo(cause, contract)
  }

  after(when: string | number | Date, options?: LaterOptions): Message<C> {
    return Object.assign({}, this, { later: later(when, options) })
  }
}

type Cause = Pick<Message, 'conversationId' | 'correlationId' | 'headers'> &
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
