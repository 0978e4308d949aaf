import type { Connection } from 'amqplib/callback_api.js'
import { atMost } from '../async/timeout.ts'
import type { Topology } from '../transport/topology.ts'
import { CLOSE_TIMEOUT_MS } from './connection.ts'
import { exchangeIsThere, NOT_FOUND, queueState, refusalOf } from './look.ts'
import { declareTopology } from './rascal.ts'
import { survey, type Finding, type Survey } from './survey.ts'
import type { BrokerTls } from './tls.ts'
import { CLIENT_NAME, NOTHING, withConnection } from './visit.ts'

/** What a broker has of a topology. */
export interface BrokerLook {
  /** Of RabbitMQ; undefined when it does not say. */
  version: string | undefined
  /** What is not there. */
  exchanges: string[]
  queues: string[]
  /** How queues and exchanges that are there differ from what would be declared. */
  findings: Finding[]
  /** Sentences about what is there and cannot be used. */
  problems: string[]
  /** Messages that wait in each queue that is there. */
  depths: ReadonlyMap<string, number>
}

/**
 * Looks what a broker has of a topology, and changes nothing: what is there is found by passive
 * declarations, and how it differs by declaring it again, which RabbitMQ refuses when anything is
 * different. (What is deleted between the two is made again.) AMQP tells nothing of bindings.
 * @param url `amqp://user:password@host:port/vhost`
 * @throws Unreachable when there is no way to the broker
 */
export async function lookAtBroker(
  url: string,
  topology: Topology,
  tls?: BrokerTls
): Promise<BrokerLook> {
  return withConnection(url, tls, async (connection) => {
    const depths = new Map<string, number>()
    const exchanges = await missing(topology.exchanges, async (name) => {
      const refusal = await refusalOf(connection, [exchangeIsThere(name)])
      return refusal?.code !== NOT_FOUND
    })
    const names = topology.queues.map(({ name }) => name)
    const queues = await missing(names, async (name) => {
      const depth = await depthOf(connection, name)
      if (depth !== undefined) depths.set(name, depth)
      return depth !== undefined
    })
    const there: Topology = {
      ...NOTHING,
      exchanges: topology.exchanges.filter((name) => !exchanges.includes(name)),
      queues: topology.queues.filter(({ name }) => !queues.includes(name))
    }
    const { findings, problems } = await survey(connection, there, vhostOf(url))
    return { version: versionOf(connection), exchanges, queues, findings, problems, depths }
  })
}

/**
 * Declares what is missing of a topology, as a process does when it starts; what is there stays as
 * it is.
 * @throws Unreachable when there is no way to the broker; Error when it refuses some of it
 */
export async function applyTopology(
  url: string,
  topology: Topology,
  tls?: BrokerTls
): Promise<Survey> {
  const surveyed = await withConnection(url, tls, (connection) =>
    survey(connection, topology, vhostOf(url))
  )
  if (surveyed.problems.length > 0) return surveyed
  const broker = await declareTopology(topology, url, CLIENT_NAME, surveyed.adopted, tls)
  broker.on('error', () => {})
  await atMost(CLOSE_TIMEOUT_MS, broker.shutdown())
  return surveyed
}

async function missing(
  names: readonly string[],
  isThere: (name: string) => Promise<boolean>
): Promise<string[]> {
  const found: string[] = []
  for (const name of names) if (!(await isThere(name))) found.push(name)
  return found
}

/** Undefined: it is not there. Of a queue that only others may look at, -1. */
async function depthOf(connection: Connection, queue: string): Promise<number | undefined> {
  try {
    return (await queueState(connection, queue))?.messages
  } catch (error) {
    if ((error as { code?: number }).code === undefined) throw error
    return -1
  }
}

/** As the broker says when it is connected to; amqplib keeps it with the connection below. */
function versionOf(connection: Connection): string | undefined {
  const { connection: below } = connection as unknown as {
    connection?: { serverProperties?: { version?: unknown } }
  }
  const version = below?.serverProperties?.version
  return typeof version === 'string' ? version : undefined
}

function vhostOf(url: string): string {
  return decodeURIComponent(new URL(url).pathname.slice(1)) || '/'
}
