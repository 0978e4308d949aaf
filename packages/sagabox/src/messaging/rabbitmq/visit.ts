// A short visit to the broker, by one connection.
import type { Connection } from 'amqplib/callback_api.js'
import { atMost, orTimeout } from '../async/timeout.ts'
import type { Topology } from '../transport/topology.ts'
import { CLOSE_TIMEOUT_MS, closeConnection, SETUP_TIMEOUT_MS, Unreachable } from './connection.ts'
import { connectionOf, declareTopology } from './rascal.ts'
import { explainRefusal } from './refusal.ts'
import type { BrokerTls } from './tls.ts'
import { busAddress } from './transport.ts'

export const NOTHING: Topology = {
  exchanges: [],
  queues: [],
  bindings: [],
  elsewhere: [],
  foreign: []
}
export const CLIENT_NAME = 'sagabox look'

/**
 * @param url `amqp://user:password@host:port/vhost`
 * @throws Unreachable when there is no way to the broker
 */
export async function withConnection<R>(
  url: string,
  tls: BrokerTls | undefined,
  work: (connection: Connection) => Promise<R>
): Promise<R> {
  const opening = declareTopology(NOTHING, url, CLIENT_NAME, undefined, tls)
  const broker = await opening.catch(async (error: Error) => {
    const said = error.message.replaceAll(/amqps?:\/\/\S+/g, busAddress(url))
    throw new Unreachable(await explainRefusal(said, url, tls), { cause: error })
  })
  broker.on('error', () => {}) // What is asked on the connection fails with it.
  try {
    const connection = await orTimeout(
      SETUP_TIMEOUT_MS,
      'RabbitMQ gave no connection',
      connectionOf(broker),
      closeConnection
    )
    connection.on('error', () => {})
    try {
      return await work(connection)
    } finally {
      await closeConnection(connection)
    }
  } finally {
    await atMost(CLOSE_TIMEOUT_MS, broker.shutdown())
  }
}
