import Type, { type TObject, type TProperties } from 'typebox'
import { ContractRules } from './contract-rules.ts'
import {
  command,
  event,
  request,
  response,
  type CallableContract,
  type CallableRequest,
  type CommandOptions,
  type Contract,
  type EventOptions
} from './message.ts'

/** Contracts of one owner. */
export interface Contracts<Key extends string> {
  /**
   * Declares an event: a fact that the owner publishes to whoever listens.
   * @param fields the body, as TypeBox has it; the correlating field among them
   */
  event<const Name extends string, Fields extends TProperties & Record<Key, TProperties[string]>>(
    name: Name,
    fields: Fields,
    options?: EventOptions
  ): CallableContract<Name, TObject<Fields>>
  /** Declares a command: an imperative, sent to the owner alone. */
  command<const Name extends string, Fields extends TProperties & Record<Key, TProperties[string]>>(
    name: Name,
    fields: Fields,
    options?: CommandOptions
  ): CallableContract<Name, TObject<Fields>>
  /** Declares what answers requests. It needs no correlating field. */
  response<const Name extends string, Fields extends TProperties>(
    name: Name,
    fields: Fields
  ): CallableContract<Name, TObject<Fields>>
  /**
   * Declares a request: it goes to the owner alone, at once, and somebody waits for the answer. It
   * needs no correlating field.
   * @param answer declared by `response`, of any owner: what the handler returns
   */
  request<const Name extends string, Fields extends TProperties, Answer extends Contract>(
    name: Name,
    fields: Fields,
    answer: Answer
  ): CallableRequest<Name, TObject<Fields>, Answer>
}

/** What all contracts of one owner have in common. */
export interface ContractsOptions<Key extends string> {
  /**
   * The field of every body that names the business transaction: a UUID, or an id of any other kind
   * that is a text of 1 to 255 bytes.
   */
  readonly correlateBy: Key
  /** The .NET namespace of the types, as MassTransit would have it; `Contracts` when not given. */
  readonly namespace?: string
}

/**
 * Declares contracts of one service. Queues, exchanges, validation and types follow from them.
 * @param owner the service that publishes the events and takes the commands
 * @throws InvalidContract, also from `event` and `command`, for what cannot be carried
 */
export function contracts<const Key extends string>(
  owner: string,
  { correlateBy, namespace }: ContractsOptions<Key>
): Contracts<Key> {
  const rules = new ContractRules(`of ${owner}`)
  rules.entity('owner', owner)
  if (namespace !== undefined) rules.namespace(namespace)
  const common = { owner, namespace, correlateBy: correlateBy as never }
  return {
    event: (name, fields, options) =>
      event(name, { ...common, ...options, schema: Type.Object(fields) }),
    command: (name, fields, options) =>
      command(name, { ...common, ...options, schema: Type.Object(fields) }),
    response: (name, fields) => response(name, { ...common, schema: Type.Object(fields) }),
    request: (name, fields, answer) =>
      request(name, { ...common, schema: Type.Object(fields), response: answer })
  }
}
