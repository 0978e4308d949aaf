import Type, { type Static, type TObject, type TProperties } from 'typebox'
import { ContractRules } from './contract-rules.ts'
import {
  callable,
  namesOfType,
  type CallableContract,
  type ExchangeType,
  type Foreign
} from './message.ts'

/** Where somebody else's event travels, and what is in it. */
export interface ForeignOptions<Fields extends TProperties> {
  /** The exchange: others declare it. */
  readonly exchange: string
  /** Of the exchange. */
  readonly type: ExchangeType
  /** The binding key, with `*` and `#` where the exchange is of type topic; empty when not given. */
  readonly key?: string
  /** The routing key of what is published; `key` when not given. */
  keyOf?(body: Static<TObject<Fields>>): string
  /**
   * For an exchange of type headers: what a message's headers must be, and `x-match: 'any'` where
   * one of them will do. What is published has them.
   */
  readonly headers?: Foreign['headers']
  /** The body. Fields that it does not name may be there, too. */
  readonly fields: Fields
  /** What names the business transaction: a text among the fields, or the path to it with dots. */
  readonly correlateBy?: string
  /** What is published may reach nobody. */
  readonly optional?: boolean
}

const TYPES: readonly ExchangeType[] = ['fanout', 'direct', 'topic', 'headers']
/** Of a key in AMQP. */
const MAX_KEY_BYTES = 255

/**
 * Declares an event that travels over an exchange of others as JSON without an envelope. Handlers
 * and sagas take it as any other; it has no id but AMQP's `message-id`, and without that is a new
 * message at each delivery, so that they must bear repeats.
 * @param name what it is called here
 * @throws InvalidContract for what cannot be carried
 */
export function foreign<const Name extends string, Fields extends TProperties>(
  name: Name,
  options: ForeignOptions<Fields>
): CallableContract<Name, TObject<Fields>> {
  const {
    exchange,
    type,
    key = '',
    keyOf,
    headers,
    fields,
    correlateBy,
    optional = false
  } = options
  const rules = new ContractRules(name)
  const names = namesOfType(name, {})
  rules.entity('exchange', exchange)
  if (!TYPES.includes(type))
    rules.refuse(`expected type to be one of ${TYPES.join(', ')}, got ${type}`)
  if (typeof key !== 'string' || Buffer.byteLength(key) > MAX_KEY_BYTES || key.includes('\0'))
    rules.refuse(`expected key to be text of at most ${MAX_KEY_BYTES} bytes`)
  if (type === 'headers' && Object.keys(headers ?? {}).length === 0)
    rules.refuse('its exchange is of type headers, and it names no headers')
  if (type !== 'headers' && headers !== undefined)
    rules.refuse(`headers are matched by exchanges of type headers alone, and its is ${type}`)
  const schema = Type.Object(fields)
  rules.fields(schema.properties)
  if (correlateBy !== undefined) rules.correlateBy(schema, correlateBy)
  rules.sensitive(schema, correlateBy)
  const isPattern = type === 'topic' && /(^|\.)[*#](\.|$)/.test(key)
  return callable(name, {
    kind: 'event',
    // Nobody's here.
    owner: exchange,
    schema,
    ...(correlateBy !== undefined && { correlateBy }),
    optional,
    ...names,
    foreign: {
      exchange,
      type,
      key,
      keyOf: (body) => {
        if (keyOf) return keyOf(body as Static<TObject<Fields>>)
        if (isPattern) rules.refuse(`its key ${key} is a pattern: to publish it, say keyOf`)
        return key
      },
      ...(headers && { headers })
    }
  })
}
