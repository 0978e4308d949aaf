// Messages from one queue into another, each confirmed there before it leaves here.
import { createHash } from 'node:crypto'
import type { Channel, ConfirmChannel, Connection, Message } from 'amqplib/callback_api.js'
import { openChannel, SETUP_TIMEOUT_MS } from './connection.ts'
import { ACCESS_REFUSED, type Refusal } from './look.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'
import { orTimeout } from '../async/timeout.ts'

/** Messages under way at once. */
const MOST_UNDER_WAY = 200
/** After so many moved messages it is said how many. */
const SAID_EACH = 1000

/** Written by the broker, for itself: sent by a client it would mislead. */
const BROKERS_OWN = ['x-delivery-count', 'x-acquired-count']

/** Somebody takes what should be moved. */
export class QueueInUse extends SagaboxError {
  override readonly name = 'QueueInUse'
  override readonly code = 'QUEUE_IN_USE'
}

export interface MoveOptions {
  from: string
  to: string
  /** It is over when nothing came for so long, ms. */
  settledMs: number
  /** Acknowledged, and not moved. */
  isNeedless?(message: Message): boolean
  /** Told now and then how many were moved. */
  moved?(count: number): void
}

/**
 * Moves all that is in a queue, as its only consumer. A message is acknowledged when the other queue
 * has confirmed it: whoever is killed between the two leaves it in both.
 * @returns how many were moved
 * @throws QueueInUse when somebody else consumes it; Error when the other queue does not take them
 */
export async function moveAll(connection: Connection, options: MoveOptions): Promise<number> {
  const { from, to, settledMs, isNeedless, moved } = options
  const source = await openChannel(connection, 'consume')
  const target = await openChannel(connection, 'confirm')
  let [count, underWay] = [0, 0]
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<number>((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer)
        if (underWay === 0) timer = setTimeout(() => resolve(count), settledMs)
      }
      const lost = (what: string) => (error: Error | undefined) =>
        reject(error ?? new Error(`the channel of ${what} closed`))
      void source.closed.then(lost(from))
      void target.closed.then(lost(to))
      target.channel.on('return', () =>
        reject(new Error(`${to} takes nothing: it is not there any more`))
      )
      const take = (message: Message) => {
        if (isNeedless?.(message)) return source.channel.ack(message)
        clearTimeout(timer)
        underWay++
        publishAgain(target.channel, to, message, (error) => {
          underWay--
          if (error) return reject(new Error(`${to} takes nothing: ${error.message}`))
          source.channel.ack(message)
          if (++count % SAID_EACH === 0) moved?.(count)
          settle()
        })
      }
      consume(source.channel, from, MOST_UNDER_WAY, take).then(settle, reject)
    })
  } finally {
    clearTimeout(timer)
    await closed(source.channel)
    await closed(target.channel)
  }
}

/**
 * Looks at all messages of a queue, which stay in it.
 * @param count how many wait in it
 * @param settledMs it is over when nothing came for so long, ms
 */
export async function lookThrough(
  connection: Connection,
  queue: string,
  count: number,
  settledMs: number,
  look: (message: Message) => void
): Promise<void> {
  const { channel, closed: gone } = await openChannel(connection, 'consume')
  let timer: NodeJS.Timeout | undefined
  try {
    await new Promise<void>((resolve, reject) => {
      let left = count
      const settle = () => {
        clearTimeout(timer)
        timer = setTimeout(resolve, settledMs)
      }
      void gone.then((error) => reject(error ?? new Error(`the channel of ${queue} closed`)))
      const take = (message: Message) => {
        look(message)
        if (--left <= 0) resolve()
        else settle()
      }
      consume(channel, queue, 0, take).then(settle, reject)
    })
  } finally {
    clearTimeout(timer)
    // What was handed out goes back.
    await closed(channel)
  }
}

/** By what a message is known again; undefined: it has no id, and may be like another. */
export function keyOf({ properties, content }: Message): string | undefined {
  const id: unknown = properties.messageId
  if (typeof id !== 'string' || id === '') return undefined
  return createHash('sha256').update(id).update('\0').update(content).digest('base64')
}

/** Exclusively, so that nobody else takes any of it meanwhile. */
async function consume(
  channel: Channel,
  queue: string,
  most: number,
  take: (message: Message) => void
): Promise<void> {
  channel.prefetch(most, false)
  const consuming = new Promise<void>((resolve, reject) =>
    channel.consume(
      queue,
      (message) => message && take(message),
      { exclusive: true },
      (error: Error | null) => (error ? reject(error) : resolve())
    )
  )
  try {
    await orTimeout(SETUP_TIMEOUT_MS, `RabbitMQ did not begin to deliver ${queue}`, consuming)
  } catch (error) {
    if ((error as Refusal).code !== ACCESS_REFUSED) throw error
    throw new QueueInUse(`somebody takes ${queue}: ${(error as Error).message}`, { cause: error })
  }
}

/** The message with all that it has, to one queue. */
function publishAgain(
  channel: ConfirmChannel,
  queue: string,
  { content, properties }: Message,
  confirmed: (error: Error | null) => void
): void {
  const headers = Object.fromEntries(
    Object.entries((properties.headers ?? {}) as Record<string, unknown>).filter(
      ([name]) => !BROKERS_OWN.includes(name)
    )
  )
  // Whose message it is nobody but its sender may say.
  const options = { ...properties, userId: undefined, headers, mandatory: true }
  channel.publish('', queue, content, options, confirmed)
}

function closed(channel: Channel): Promise<void> {
  return new Promise((resolve) => {
    try {
      channel.close(() => resolve())
    } catch {
      resolve() // It is closed already, which is what was wanted.
    }
  })
}
