import type { Connection } from 'amqplib/callback_api.js'
import { EXCHANGE, queueArguments, type Adopted } from './rascal-config.ts'
import {
  ACCESS_REFUSED,
  exchangeIsThere,
  queueIsThere,
  refusalOf,
  type Question,
  type Refusal
} from './look.ts'
import type { Topology } from '../transport/topology.ts'

const RESOURCE_LOCKED = 405
const PRECONDITION_FAILED = 406

/** More than there are kinds of arguments. */
const MOST_QUESTIONS = 25

export interface Survey {
  adopted: Adopted
  /** What is said of each that is used otherwise than it would have been declared. */
  findings: Finding[]
  /** Sentences about what cannot be used. */
  problems: string[]
}

export interface Finding {
  queue?: string
  exchange?: string
  /** What it is, where the broker tells. */
  found: Record<string, unknown>
  /** What it lacks, or does with messages; empty when it serves as well as ours. */
  lacks: string[]
  /** The command that adds what it lacks. */
  policy?: string
}

/** How a queue was declared. */
export interface QueueOptions {
  durable: boolean
  autoDelete: boolean
  arguments: Record<string, unknown>
}

/**
 * Looks at each exchange and queue alone: declares what is missing, and finds out how the others
 * differ. RabbitMQ tells it only in its refusal to declare them again, one argument at a time.
 */
export async function survey(
  connection: Connection,
  { exchanges, queues }: Topology,
  vhost: string
): Promise<Survey> {
  const adopted = { exchanges: new Set<string>(), queues: new Set<string>() }
  const findings: Finding[] = []
  const problems: string[] = []
  for (const exchange of exchanges) {
    const found = await surveyExchange(connection, exchange)
    if (typeof found === 'string') problems.push(found)
    else if (found) adopted.exchanges.add(exchange)
    if (typeof found === 'object') findings.push(found)
  }
  for (const { name, deadLetterExchange } of queues) {
    const found = await surveyQueue(connection, name, deadLetterExchange, vhost)
    if (typeof found === 'string') problems.push(found)
    else if (found) adopted.queues.add(name)
    if (typeof found === 'object') findings.push(found)
  }
  return { adopted, findings, problems }
}

/**
 * @returns nothing: it is as declared here; true: it is there, and nothing else is known; or a
 * sentence about why it cannot be used
 */
async function surveyExchange(
  connection: Connection,
  name: string
): Promise<undefined | true | Finding | string> {
  const options: Record<string, unknown> = {
    ...EXCHANGE.options,
    autoDelete: false,
    internal: false
  }
  const found: Record<string, unknown> = {}
  for (let asked = 0; asked < MOST_QUESTIONS; asked++) {
    const refusal = await refusalOf(connection, [
      (channel, answered) => channel.assertExchange(name, EXCHANGE.type, options, answered)
    ])
    if (!refusal) break
    if (refusal.code === ACCESS_REFUSED)
      return onlyIfThere(connection, `exchange ${name}`, exchangeIsThere(name), refusal)
    const difference = differenceIn(refusal)
    if (!difference) throw refusal
    const { what, current } = difference
    if (what === 'type')
      return `exchange ${name} is of type ${String(current)}; expected ${EXCHANGE.type}, because whatever is bound to it gets every message: have its owner declare it as MassTransit does`
    if (what === 'internal')
      return `exchange ${name} is internal; expected one that can be published to: have its owner declare it as MassTransit does`
    found[what] = current
    options[OPTION_NAMES[what] ?? what] = current
    if (what === 'alternate-exchange') options.alternateExchange = current
  }
  if (Object.keys(found).length === 0) return undefined
  const lacks = [
    ...(found.durable === false
      ? ['durability: it is gone when RabbitMQ restarts, with its bindings']
      : []),
    ...(found.auto_delete === true
      ? ['permanence: it is deleted with its last binding, and what is published then is lost']
      : [])
  ]
  return { exchange: name, found, lacks }
}

async function surveyQueue(
  connection: Connection,
  name: string,
  deadLetterExchange: string | undefined,
  vhost: string
): Promise<undefined | true | Finding | string> {
  const learned = await learnQueue(connection, name, deadLetterExchange)
  if (learned === undefined || learned === true || typeof learned === 'string') return learned
  return findingOf(name, learned, deadLetterExchange, vhost)
}

/**
 * How a queue that is there was declared. One that is missing is declared.
 * @returns nothing: as it is declared here; true: it is there, and nothing else is known; or a
 * sentence about why it cannot be used
 */
export async function learnQueue(
  connection: Connection,
  name: string,
  deadLetterExchange?: string
): Promise<undefined | true | QueueOptions | string> {
  const options: QueueOptions = {
    durable: true,
    autoDelete: false,
    arguments: queueArguments(deadLetterExchange)
  }
  let differs = false
  for (let asked = 0; asked < MOST_QUESTIONS; asked++) {
    const refusal = await refusalOf(connection, [
      (channel, answered) => channel.assertQueue(name, options, answered)
    ])
    if (!refusal) return differs ? options : undefined
    if (refusal.code === ACCESS_REFUSED)
      return onlyIfThere(connection, `queue ${name}`, queueIsThere(name), refusal)
    if (refusal.code === RESOURCE_LOCKED)
      return `queue ${name} is exclusive to another connection; expected one that its consumers share: have that program use another name`
    const difference = differenceIn(refusal)
    if (!difference) throw refusal
    const { what, current } = difference
    if (
      what === 'x-queue-type' &&
      current !== undefined &&
      !QUEUE_TYPES.includes(String(current))
    ) {
      return `queue ${name} is of type ${String(current)}; expected a quorum or a classic queue: have that program use another name`
    }
    differs = true
    if (what === 'durable') options.durable = current === true
    else if (what === 'auto_delete') options.autoDelete = current === true
    else if (current === undefined) delete options.arguments[what]
    // Of two values of one type RabbitMQ tells no type.
    else
      options.arguments[what] =
        typeof options.arguments[what] === 'number' ? Number(current) : current
  }
  return true
}

const QUEUE_TYPES = ['quorum', 'classic']
/** amqplib's names for AMQP's. */
const OPTION_NAMES: Record<string, string> = { auto_delete: 'autoDelete' }

/** What may not be declared can still be used. */
async function onlyIfThere(
  connection: Connection,
  what: string,
  isThere: Question,
  refusal: Refusal
): Promise<true | string> {
  return (await refusalOf(connection, [isThere]))
    ? `${what} is missing, and RabbitMQ does not let this user declare it: ${refusal.message}`
    : true
}

interface Difference {
  what: string
  /** Undefined: none. */
  current: string | number | boolean | undefined
}

const INEQUIVALENT =
  /inequivalent arg '([^']+)' for .*: received .* but current is (?:none|the value '(.*)' of type '(\w+)'|'(.*)')/s

/**
 * What RabbitMQ says in `PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'stock' in
 * vhost '/': received … but current is …`.
 */
function differenceIn({ code, message }: Refusal): Difference | undefined {
  if (code !== PRECONDITION_FAILED) return undefined
  const [, what, value, type, plain] = INEQUIVALENT.exec(message) ?? []
  if (what === undefined) return undefined
  return {
    what,
    current:
      value === undefined ? (isTruth(plain) ? plain === 'true' : plain) : valueOf(value, type!)
  }
}

function valueOf(text: string, type: string): string | number | boolean {
  if (type === 'bool') return text === 'true'
  return type === 'longstr' || Number.isNaN(Number(text)) ? text : Number(text)
}

function isTruth(text: string | undefined): boolean {
  return text === 'true' || text === 'false'
}

function findingOf(
  queue: string,
  { durable, autoDelete, arguments: learned }: QueueOptions,
  deadLetterExchange: string | undefined,
  vhost: string
): Finding {
  const isQuorum = learned['x-queue-type'] === 'quorum'
  const found: Record<string, unknown> = isQuorum
    ? learned
    : { ...learned, 'x-queue-type': 'classic' }
  // Of a classic queue RabbitMQ does not look at these, whatever is declared.
  if (!isQuorum)
    for (const name of ['x-delivery-limit', 'x-dead-letter-strategy']) delete found[name]
  const wanted = queueArguments(deadLetterExchange)
  const missesLimit = isQuorum && found['x-delivery-limit'] === undefined
  const missesExchange =
    deadLetterExchange !== undefined && found['x-dead-letter-exchange'] === undefined
  const unlimited =
    missesExchange || !deadLetterExchange
      ? 'RabbitMQ 4 drops a message after 20 deliveries'
      : 'RabbitMQ 4 gives up on a message after 20 deliveries'
  const lacks = [
    ...(missesLimit ? [`a delivery limit (${unlimited})`] : []),
    ...(missesExchange ? [`the dead-letter exchange ${deadLetterExchange}`] : []),
    ...(durable ? [] : ['durability: it is lost when RabbitMQ restarts']),
    ...(autoDelete
      ? ['permanence: it is deleted with its last consumer, and what is published then is lost']
      : []),
    ...LOSING.filter((argument) => found[argument] !== undefined).map(
      (argument) => `room for what waits long: ${argument} is ${String(found[argument])}`
    )
  ]
  const definition = {
    ...(missesLimit && { 'delivery-limit': wanted['x-delivery-limit'] }),
    ...(missesExchange && { 'dead-letter-exchange': deadLetterExchange }),
    ...(missesExchange &&
      isQuorum && { 'dead-letter-strategy': 'at-least-once', overflow: 'reject-publish' })
  }
  const policy =
    Object.keys(definition).length > 0 ? policyFor(queue, definition, vhost) : undefined
  return {
    queue,
    found: { durable, autoDelete, ...found },
    lacks,
    ...(policy !== undefined && { policy })
  }
}

/** Arguments by which a queue or what is in it ends by itself. */
const LOSING = ['x-expires', 'x-message-ttl', 'x-max-length', 'x-max-length-bytes']

function policyFor(queue: string, definition: object, vhost: string): string {
  const pattern = `^${queue.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`
  return `rabbitmqctl set_policy -p ${quoted(vhost)} ${quoted(`sagabox-${queue}`)} ${quoted(pattern)} ${quoted(JSON.stringify(definition))} --apply-to queues`
}

/** For a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
