// All of Rascal that is used: it declares the topology and makes connections.
import type { Connection } from 'amqplib/callback_api.js'
import rascal, { type BrokerAsPromised, type BrokerConfig } from 'rascal'
import { atMost } from '../async/timeout.ts'
import type { Topology } from '../transport/topology.ts'
import { CLOSE_TIMEOUT_MS } from './connection.ts'
import { rascalConfig, VHOST, type Adopted } from './rascal-config.ts'
import { tlsOptions, type BrokerTls } from './tls.ts'

export type RascalBroker = BrokerAsPromised

/**
 * Connects and declares a topology.
 * @param adopted what is there already, and is used as it is
 * @throws InvalidTls; Error with the broker's words when it refuses some of it. Rascal hands a broker that could
 * connect but not declare over inside the error, still connected: it is shut down here
 */
export async function declareTopology(
  topology: Topology,
  url: string,
  clientName: string,
  adopted?: Adopted,
  tls?: BrokerTls
): Promise<RascalBroker> {
  const files = tlsOptions(url, tls)
  const config = rascalConfig(topology, url, clientName, adopted, files) as BrokerConfig
  try {
    return await rascal.BrokerAsPromised.create(config)
  } catch (error) {
    const half = (error as Record<symbol, RascalBroker | undefined>)[
      (error as { broker: symbol }).broker
    ]
    await atMost(CLOSE_TIMEOUT_MS, half?.shutdown())
    throw error
  }
}

/** A new connection of the broker's own. */
export function connectionOf(broker: RascalBroker): Promise<Connection> {
  return broker.connect(VHOST) as unknown as Promise<Connection>
}
