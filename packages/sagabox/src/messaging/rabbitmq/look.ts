import type { Channel, Connection } from 'amqplib/callback_api.js'
import { SETUP_TIMEOUT_MS } from './connection.ts'
import type { EndpointElsewhere } from '../transport/topology.ts'
import { orTimeout } from '../async/timeout.ts'

/** The broker's answer to a question that it closes the channel over. */
export interface Refusal extends Error {
  /** AMQP's: 403 access refused, 404 not found, 405 locked, 406 precondition failed. */
  code?: number
}

/** One question to the broker, as amqplib asks it. */
export type Question = (channel: Channel, answered: (error: Error | null) => void) => void

/**
 * Asks on a channel of its own, one question after the other: the broker ends a channel over a
 * "no".
 * @throws Refusal, or an Error when there is no answer in time
 */
export async function ask(connection: Connection, questions: readonly Question[]): Promise<void> {
  const opening = new Promise<Channel>((resolve, reject) =>
    connection.createChannel((error: Error | null, channel) =>
      error ? reject(error) : resolve(channel)
    )
  )
  const channel = await orTimeout(SETUP_TIMEOUT_MS, 'RabbitMQ opened no channel', opening, close)
  // The answer itself says what is wrong; without a listener this event would end the process.
  channel.on('error', () => {})
  try {
    for (const question of questions) {
      const answer = new Promise<void>((resolve, reject) =>
        question(channel, (error) => (error ? reject(error) : resolve()))
      )
      await orTimeout(SETUP_TIMEOUT_MS, 'RabbitMQ gave no answer', answer)
    }
  } finally {
    close(channel)
  }
}

function close(channel: Channel): void {
  try {
    channel.close(() => {})
  } catch {
    // The broker has closed it.
  }
}

/** @returns the refusal, or nothing when all was answered */
export async function refusalOf(
  connection: Connection,
  questions: readonly Question[]
): Promise<Refusal | undefined> {
  try {
    await ask(connection, questions)
    return undefined
  } catch (error) {
    if ((error as Refusal).code === undefined) throw error
    return error as Refusal
  }
}

/** What a passive declaration tells of a queue. */
export interface QueueState {
  /** Those that wait; not those that are handed out. */
  messages: number
  consumers: number
}

/**
 * @returns undefined when it is not there
 * @throws Refusal of another kind
 */
export async function queueState(
  connection: Connection,
  queue: string
): Promise<QueueState | undefined> {
  let state: QueueState | undefined
  const refusal = await refusalOf(connection, [
    (channel, answered) =>
      channel.checkQueue(queue, (error: Error | null, ok) => {
        if (ok) state = { messages: ok.messageCount, consumers: ok.consumerCount }
        answered(error)
      })
  ])
  if (refusal && refusal.code !== NOT_FOUND) throw refusal
  return state
}

export const queueIsThere =
  (name: string): Question =>
  (channel, answered) =>
    channel.checkQueue(name, answered)
export const exchangeIsThere =
  (name: string): Question =>
  (channel, answered) =>
    channel.checkExchange(name, answered)

/**
 * Why an endpoint that others declare does not get what it takes: nothing when it is there. A queue
 * alone does not tell: it may have been declared a moment before its bindings, or by a version that
 * took less. So they are made here, too, which changes nothing where they are.
 * @param mayBind false: the queue has to be enough
 */
export async function whyUnreachable(
  connection: Connection,
  { endpoint, takes }: EndpointElsewhere,
  mayBind = true
): Promise<string | undefined> {
  const missing = await refusalOf(connection, [queueIsThere(endpoint), exchangeIsThere(endpoint)])
  if (missing) return missing.message
  if (!mayBind) return undefined
  const bindings: Question[] = takes
    .filter((exchange) => exchange !== endpoint)
    .map(
      (exchange) => (channel, answered) =>
        channel.bindExchange(endpoint, exchange, '', {}, answered)
    )
  const refusal = await refusalOf(connection, [
    (channel, answered) => channel.bindQueue(endpoint, endpoint, '', {}, answered),
    ...bindings
  ])
  // A user without the right to bind relies on the endpoint's own bindings.
  return refusal?.code === ACCESS_REFUSED ? undefined : refusal?.message
}

export const ACCESS_REFUSED = 403
export const NOT_FOUND = 404
