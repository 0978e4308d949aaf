import type { Channel, ConfirmChannel, Connection } from 'amqplib/callback_api.js'
import { backoff, pause } from '../async/batcher.ts'
import { atMost, orTimeout } from '../async/timeout.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'

/**
 * A blocked or half-open connection never answers a close; after this many ms the process goes on
 * without the answer.
 */
export const CLOSE_TIMEOUT_MS = 3000

/**
 * For each step on the way to a working channel, ms; longer than a socket's own limit for
 * connecting.
 */
export const SETUP_TIMEOUT_MS = 12_000

/** Shortest time between two attempts to open a connection, ms. */
const RETRY_MIN_MS = 250
const RETRY_MAX_MS = 5000

/** There is no way to the broker. Said once, by the transport, for everybody who waits for it. */
export class Unreachable extends SagaboxError {
  override readonly name = 'Unreachable'
  override readonly code = 'UNREACHABLE'
}

/** One life of a connection with one channel on it. */
export interface OpenChannel<C> {
  connection: Connection
  channel: C
  /** Resolves when either is gone, with the reason when there is one. */
  closed: Promise<Error | undefined>
}

/**
 * Opens a channel; `closed` and the error listeners are there before anything can go wrong with it.
 */
export async function openChannel(
  connection: Connection,
  kind: 'confirm'
): Promise<OpenChannel<ConfirmChannel>>
export async function openChannel(
  connection: Connection,
  kind: 'consume'
): Promise<OpenChannel<Channel>>
export async function openChannel(
  connection: Connection,
  kind: 'confirm' | 'consume'
): Promise<OpenChannel<Channel>> {
  const connectionClosed = closedOrFailed(connection)
  const opening = new Promise<Channel>((resolve, reject) => {
    const opened = (error: Error | null, made: Channel) => (error ? reject(error) : resolve(made))
    if (kind === 'confirm') connection.createConfirmChannel(opened)
    else connection.createChannel(opened)
    void connectionClosed.then((error) =>
      reject(error ?? new Error('The connection closed before the channel was open'))
    )
  })
  const channel = await orTimeout(SETUP_TIMEOUT_MS, 'RabbitMQ opened no channel', opening)
  return { connection, channel, closed: Promise.race([connectionClosed, closedOrFailed(channel)]) }
}

/** Without a listener an `error` event would end the process. */
function closedOrFailed(emitter: NodeJS.EventEmitter): Promise<Error | undefined> {
  return new Promise((resolve) => {
    emitter.once('close', () => resolve(undefined))
    emitter.on('error', resolve)
  })
}

export async function closeConnection(connection: Connection): Promise<void> {
  await atMost(
    CLOSE_TIMEOUT_MS,
    new Promise<void>((resolve) => {
      try {
        connection.close(() => resolve())
      } catch {
        // amqplib throws when the connection is closed already, which is what was wanted.
        resolve()
      }
    })
  )
}

/**
 * Runs a session again and again until the signal: after each end, and after each failure to begin,
 * a growing pause.
 * @param session one life, from connecting to closed; throws when it could not begin or ended by an
 * error
 * @param failed told why there is no session; the session itself says when there is one again
 */
export async function keepAlive(
  session: () => Promise<void>,
  signal: AbortSignal,
  failed: (error: Error) => void
): Promise<void> {
  for (let failures = 1; !signal.aborted; failures++) {
    const began = performance.now()
    try {
      await session()
    } catch (error) {
      if (!signal.aborted) failed(error as Error)
    }
    if (performance.now() - began > RETRY_MAX_MS) failures = 1
    await pause(backoff(failures, RETRY_MIN_MS, RETRY_MAX_MS), signal)
  }
}
